"""Where to compute: CPUs that a process may use, how its threads wait, devices, precisions."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from lsgcli.config.machine import MachineConfig
from lsgcli.errors import ConfigError
from lsgcli.system import cpus
from lsgcli.system.device import Compute, full_precision, pick_device, pick_precision, use_threads
from lsgcli.system.ranks import Place

ASK = [sys.executable, "-c", "from lsgcli.system import cpus; print(*cpus.usable(cpus.THREADS), sep=', ')"]


@pytest.fixture
def eight(monkeypatch):
    """A process that may run on eight CPUs, and of whose environment nothing is set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for name in cpus.THREADS:
        monkeypatch.delenv(name, raising=False)


def tree(root, membership, files):
    """A folder like / that says in which control groups the process is, and what these allow."""
    for name, text in {
        "proc/self/cgroup": membership,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/job/step", {"cpu.max": "max 100000", "job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/job/step", {"job/cpu.max": "600000 100000", "job/step/cpu.max": "50000 25000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 2),  # a container that sees its group as the root
        ("0::/../elsewhere", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "5000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "6400000 100000"}, 8),
        ("0::/", {}, 8),
        ("4:memory:/a\n3:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "500000", "cpu/a/cpu.cfs_period_us": "100000"}, 5),
        ("3:cpuacct,cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"}, 3),
        ("3:cpu:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("3:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_quotas_of_control_groups(eight, tmp_path, membership, files, expected):
    found = cpus.usable(root=tree(tmp_path, membership, files))
    assert found == (expected, "cgroup quota" if expected < 8 else "CPU affinity")


@pytest.mark.parametrize(
    ("environment", "threads", "processes"),
    [
        ({}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"SLURM_CPUS_PER_TASK": "4"}, (4, "SLURM_CPUS_PER_TASK"), (4, "SLURM_CPUS_PER_TASK")),
        ({"OMP_NUM_THREADS": "2"}, (2, "OMP_NUM_THREADS"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "5,2", "SLURM_CPUS_PER_TASK": "4"}, (5, "OMP_NUM_THREADS"), (4, "SLURM_CPUS_PER_TASK")),
        ({"OMP_NUM_THREADS": "64"}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "", "SLURM_CPUS_PER_TASK": "0"}, (6, "cgroup quota"), (6, "cgroup quota")),
        ({"OMP_NUM_THREADS": "many"}, (6, "cgroup quota"), (6, "cgroup quota")),
    ],
)
def test_variables_count_within_what_is_allowed(eight, monkeypatch, tmp_path, environment, threads, processes):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = tree(tmp_path, "0::/", {"cpu.max": "600000 100000"})
    assert cpus.usable(cpus.THREADS, root) == threads
    assert cpus.usable(cpus.PROCESSES, root) == processes


def ask(join, **environment):
    """What a process says that first calls ``join``."""
    clean = {name: value for name, value in os.environ.items() if name not in cpus.THREADS}
    return subprocess.run(
        ASK, env=clean | environment, preexec_fn=join, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_affinity_of_a_process():
    one = {min(os.sched_getaffinity(0))}
    assert ask(lambda: os.sched_setaffinity(0, one)) == "1, CPU affinity"
    assert ask(lambda: os.sched_setaffinity(0, one), OMP_NUM_THREADS="3") == "1, CPU affinity"


@pytest.mark.parametrize("name", cpus.WAITING)
def test_the_user_says_how_threads_wait(name):
    environment = {name: "ACTIVE"}
    cpus.wait_passively(environment)
    assert environment == {name: "ACTIVE"}


@pytest.mark.parametrize(("given", "variables", "expected"), [(7, {"SLURM_CPUS_PER_TASK": "2"}, 7), (8, {}, 8), (64, {}, 8)])
def test_a_number_that_is_set_is_limited_by_the_machine(monkeypatch, eight, caplog, given, variables, expected):
    monkeypatch.setattr(cpus, "_quotas", lambda root: ())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cpus._warn_once.cache_clear()
    assert [cpus.limited("workers", given) for _ in range(2)] == [expected, expected]
    messages = ["workers: found 64, expected at most 8 (CPU affinity); using 8"] if expected < given else []
    assert [record.message for record in caplog.records] == messages


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
