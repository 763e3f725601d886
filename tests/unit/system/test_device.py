"""Where to compute."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from lsgcli.config.machine import MachineConfig
from lsgcli.errors import ConfigError
from lsgcli.system.device import Compute, full_precision, pick_device, pick_precision, use_threads
from lsgcli.system.ranks import Place


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(pick_device(name)) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    for name in ("cuda:2", "tpu", "cuda:", "cuda:x"):
        with pytest.raises(ConfigError, match="device: found"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(pick_device("auto")) == "cpu"
    with pytest.raises(ConfigError, match="has 0 CUDA GPUs"):
        pick_device("cuda")


@pytest.mark.parametrize(("of_slurm", "gpus", "expected"), [(True, 1, "cuda:0"), (True, 4, "cuda:3"), (False, 4, "cuda:3")])
def test_each_process_has_a_gpu(monkeypatch, of_slurm, gpus, expected):
    """srun --gpus-per-task=1 shows each task its own GPU only."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("lsgcli.system.device.here", lambda: Place(3, 4, 3, 4, "a", 1, of_slurm=of_slurm))
    assert str(pick_device("auto")) == expected
    monkeypatch.setattr("lsgcli.system.device.here", lambda: Place(4, 5, 4, 5, "a", 1))
    with pytest.raises(ConfigError, match=f"this machine has {gpus} CUDA GPUs"):
        pick_device("auto")


def test_precision():
    linear, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute(torch.device("cpu"), precision).context():
            assert linear(x).dtype == dtype
    assert full_precision(x.bfloat16()).dtype == torch.float32
    assert full_precision(x.double()).dtype == torch.float64


def test_precision_follows_the_hardware(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for flags, expected in (
        ({"avx512f"}, "fp32"),
        ({"AuthenticAMD", "avx512_bf16"}, "bf16"),
        ({"GenuineIntel", "avx512_bf16"}, "fp32"),
        ({"GenuineIntel", "avx512_bf16", "amx_bf16"}, "bf16"),
    ):
        monkeypatch.setattr("lsgcli.system.device.cpu_flags", lambda flags=flags: flags)
        found, reason = pick_precision("auto", cpu)
        assert found == expected
        assert "bf16" in reason
    for capability, expected in (((6, 1), "fp32"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert pick_precision("auto", gpu)[0] == expected
    assert [pick_precision(name, cpu)[0] for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert MachineConfig().precision == "fp32"  # on any machine


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="other processors do not saturate")
def test_int8_depends_on_products_and_not_on_flags():
    """oneDNN told to use no more than AVX2 saturates, whatever the processor has."""
    code = "from lsgcli.system.device import products_are_exact; print(products_are_exact())"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, check=True).stdout.strip() == b"False"


@pytest.mark.parametrize(
    ("variables", "place", "cpus", "given", "threads", "reason"),
    [
        ({}, Place(0, 4, 0, 4), 8, None, 2, "CPU affinity, shared by 4 processes"),
        ({"OMP_NUM_THREADS": "1"}, Place(0, 4, 0, 4), 8, None, 2, "CPU affinity, shared by 4 processes"),  # as torchrun sets it
        ({"OMP_NUM_THREADS": "3"}, Place(0, 4, 0, 4), 8, None, 3, "OMP_NUM_THREADS"),
        ({"SLURM_CPUS_PER_TASK": "4"}, Place(0, 4, 0, 4, of_slurm=True), 8, None, 4, "SLURM_CPUS_PER_TASK"),
        ({"SLURM_CPUS_PER_TASK": "4"}, Place(0, 4, 0, 4), 8, None, 1, "SLURM_CPUS_PER_TASK, shared by 4 processes"),
        ({}, Place(), 1, None, 1, "CPU affinity"),
        ({}, Place(), 4, None, 3, "torch's default"),
        ({}, Place(), 3, None, 3, "CPU affinity"),
        ({}, Place(), 1, 4, 1, "as set"),
    ],
)
def test_threads(monkeypatch, variables, place, cpus, given, threads, reason):
    before = torch.get_num_threads()
    monkeypatch.setattr("lsgcli.system.cpus._affinity", lambda: (cpus, "CPU affinity"))
    monkeypatch.setattr("lsgcli.system.cpus._quotas", lambda root: ())
    monkeypatch.setattr("lsgcli.system.device.here", lambda: place)
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        torch.set_num_threads(3)
        assert use_threads(given) == reason
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
