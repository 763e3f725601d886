"""Training on a CUDA device that does nothing: all tensors are on it, and no step waits for it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import torch

HERE = Path(__file__).parent
TORCH = Path(find_spec("torch").origin).parent
pytestmark = [
    pytest.mark.slow(first=True),
    pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler, g++"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs LD_PRELOAD"),
    pytest.mark.skipif(
        torch.backends.cuda.is_built(), reason="needs torch without CUDA, whose own hooks would be registered twice"
    ),
]


@pytest.fixture(scope="session")
def device(tmp_path_factory):
    """The device as a shared library."""
    library = tmp_path_factory.mktemp("device") / "device.so"
    include, lib = TORCH / "include", TORCH / "lib"
    options = ["-shared", "-fPIC", "-std=c++20", f"-I{include}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-ltorch_cpu", "-lc10"]
    subprocess.run(["g++", HERE / "device.cpp", *options, "-o", library], check=True)
    return library


def found(device, *words):
    """What is found in the chosen cases, by a process of its own."""
    environment = {**os.environ, "LD_PRELOAD": str(device)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.without_a_card", *map(str, words)]
    run = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_network_method_neuron_norm_and_optimiser(device):
    records = found(device)
    assert len(records) > 300
    assert [record for record in records if "error" in record or record["waits"] or len(record["evaluation"]) > 1] == []


def test_a_planted_tensor_on_the_cpu_is_found(device):
    (record,) = found(device, "cpu")
    assert "FakeTensorDeviceMismatchError" in record["error"]


def test_a_planted_read_is_found(device):
    (record,) = found(device, "item")
    assert "error" not in record
    assert len(record["waits"]) == 2  # one in each step
    assert all("_local_scalar_dense" in wait and "losses.py" in wait for wait in record["waits"])
