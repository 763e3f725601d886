"""Compiled kernels on disk: kept, damaged, nowhere to keep them, compiled twice at once, and a fork afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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


@pytest.fixture
def compiled(monkeypatch, capsys, caplog):
    """Compile a kernel or load it from below a cache folder, as a new process does; what is said of it."""
    config = pytest.importorskip("numba.core.config")
    from lsgcli.neurons.kernels.cpu import build, workers

    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("NUMBA_DEBUG_CACHE", "1")

    def run(cache, name="statistics", *options):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        config.reload_config()
        forget()
        caplog.clear()
        with caplog.at_level("INFO", "lsg"):
            build.address.__wrapped__(getattr(workers, name), np.float32, *options)
        return capsys.readouterr().out + caplog.text

    def forget():
        build.folder.cache_clear()
        build._announce.cache_clear()

    yield run
    forget()


def test_kernels_are_kept_and_damaged_ones_recompiled(compiled, tmp_path):
    """The next process loads what an earlier one compiled, below the cache folder; a file that was cut off is not an error."""
    first = compiled(tmp_path)
    assert f"cached in {tmp_path}" in first
    assert "data saved to" in first
    second = compiled(tmp_path)
    assert "data loaded from" in second
    assert "data saved to" not in second
    assert "compiling kernels" not in second
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(file.read_bytes()[:100])
    assert "recompiling" in compiled(tmp_path)
    options = ("forward", np.float32, np.float32, "hard")  # some are types of numpy
    said = compiled(tmp_path, *options)
    assert "data saved to" in said
    assert "compiling kernels" in said  # although the cache has kernels
    assert "data loaded from" in compiled(tmp_path, *options)


def test_nowhere_to_keep_them(compiled):
    """A cache folder that cannot be made is not an error either."""
    assert "set NUMBA_CACHE_DIR" in compiled("/dev/null")


@pytest.mark.slow
def test_compiled_twice_at_once(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "NUMBA_DEBUG_CACHE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", COMPILE], cwd=ROOT, env=environment, **pipes) for _ in range(2)]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert any("data saved to" in text for text in said)


def test_a_fork_afterwards():
    """A child of a process that has run kernels on several threads runs them, too."""
    subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, check=True, timeout=120)
