"""Compiled kernels between processes: kept, damaged, nowhere to keep them, compiled twice at once, and a fork afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPILE = """
import logging
import numpy as np
logging.basicConfig(level="INFO")
from lsgcli.neurons.kernels.cpu import build, workers
build.address(workers.statistics, np.float32)
"""
FORK = """
import os
import torch
from lsgcli.neurons import LIF
current = torch.tensor([0.3, 0.6, 0.3]).repeat(1000, 1).T.contiguous()
torch.set_num_threads(2)
assert LIF(backend="fused")(current).sum() == 1000
child = os.fork()
if child == 0:
    torch.set_num_threads(1)  # as every library that forks does, since OpenMP's threads do not follow
    os._exit(0 if LIF(backend="fused")(current).sum() == 1000 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def start(cache):
    """A new Python that compiles a kernel and keeps it below ``cache``."""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "NUMBA_DEBUG_CACHE": "1"}
    command = [sys.executable, "-c", COMPILE]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    """What it said; it must have succeeded."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that two processes have filled at the same time."""
    folder = tmp_path_factory.mktemp("cache")
    both = [start(folder) for _ in range(2)]
    said = [finish(process) for process in both]
    assert any("data saved to" in text for text in said)
    assert any(f"cached in {folder}" in text for text in said)
    return folder


def test_kernels_are_kept(cache):
    """The next process loads what an earlier one compiled, below the cache folder."""
    assert list(cache.rglob("*.nbc"))
    said = finish(start(cache))
    assert "data loaded from" in said
    assert "data saved to" not in said
    assert "compiling kernels" not in said


def test_damaged_kernels_are_recompiled(cache):
    """A file that was cut off is not an error."""
    for file in cache.rglob("*.nb?"):
        file.write_bytes(file.read_bytes()[:100])
    assert "recompiling" in finish(start(cache))


def test_nowhere_to_keep_them():
    """Neither is a cache folder that cannot be made."""
    assert "set NUMBA_CACHE_DIR" in finish(start("/dev/null"))


def test_a_fork_afterwards():
    """A child of a process that has run kernels on several threads runs them, too."""
    subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, check=True, timeout=120)
