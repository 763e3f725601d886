"""``lsg doctor`` on a machine in order, and on a broken one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lsgcli.neurons.kernels import selftest
from lsgcli.runs import doctor

BACKEND = """
from lsgcli.neurons.kernels.reference import Reference
class Off(Reference):
    def __call__(self, current, p, overwrite=False):
        return super().__call__(current + 1 / 64, p)
class Missing(Reference):
    def __call__(self, current, p, overwrite=False):
        open(__file__ + ".tables")
off, missing = Off(), Missing()
"""
SCRIPT = """
import ctypes, sys
import torch  # with its own runtime
from lsgcli.runs import doctor
if sys.argv[1]:
    ctypes.CDLL(sys.argv[1])
sys.argv[1:] = ["doctor", *sys.argv[2:]]
from lsgcli.cli.app import main
main()
"""


@pytest.fixture
def machine(tmp_path):
    """A home directory with a second OpenMP runtime, a file in the place of the cache, and a plug-in with two broken backends."""
    home = tmp_path / "home" / "somebody"
    (project := home / "secret-project").mkdir(parents=True)
    (home / "cache").touch()
    (home / "plugin" / "broken-0.1.dist-info").mkdir(parents=True)
    (home / "plugin" / "broken_backends.py").write_text(BACKEND)
    entries = "[lsg.backend]\noff = broken_backends:off\nmissing = broken_backends:missing\n"
    (home / "plugin" / "broken-0.1.dist-info" / "entry_points.txt").write_text(entries)
    (home / "plugin" / "broken-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    runtimes = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    if runtimes:
        (home / "libgomp-second.so.1").write_bytes(runtimes[0].read_bytes())
    environment = {
        **os.environ,
        "HOME": str(home),
        "USER": "somebody",
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(doctor.__file__).parents[2]), str(home / "plugin")]),
    }
    second = str(home / "libgomp-second.so.1") if runtimes else ""

    def run(*options):
        command = [sys.executable, "-c", SCRIPT, second, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=project, env=environment)

    return run


@pytest.mark.slow  # it compiles the kernels of the self-test
def test_a_broken_machine(machine):
    done = machine("--json")
    assert done.returncode == 9, done.stderr
    record = json.loads(done.stdout)
    failed = {check["name"]: check for check in record["checks"] if not check["ok"]}
    expected = {"cache", "backend off", "backend missing", *(["openmp"] if sys.platform == "linux" else [])}
    assert failed.keys() == expected
    assert "Not a directory" in failed["cache"]["found"]
    assert "XDG_CACHE_HOME" in failed["cache"]["hint"]
    assert "spikes of surrogate=rectangular" in failed["backend off"]["found"]
    assert "FileNotFoundError" in failed["backend missing"]["found"]
    assert "broken_backends.py.tables" in failed["backend missing"]["found"]
    assert all(check["expected"] and check["hint"] for check in failed.values())
    if "openmp" in failed:
        assert "libgomp-second.so.1 of no package of Python" in failed["openmp"]["found"]
        assert " of torch" in failed["openmp"]["found"]
    assert {name for name, one in record["backends"].items() if not one["ok"]} == {"off", "missing"}
    assert "error: failed: cache, backend missing, backend off" in done.stderr
    for private in ("somebody", "secret-project", str(Path(sys.prefix)), str(Path(doctor.__file__).parents[2])):
        assert private not in done.stdout, private


def test_progress_and_quick(lsg, monkeypatch):
    monkeypatch.setattr(doctor, "_openmp", lambda: doctor.Check("openmp", True, "of the test's other libraries"))
    monkeypatch.setattr(doctor, "DISK", 0)
    compared = []

    def compare(name, device):
        compared.append(name)
        yield from [selftest.Result("a case", 1e-6)] * 3

    monkeypatch.setattr(selftest, "compare", compare)
    told = []
    record = doctor.examine(lambda *progress: told.append(progress))
    assert "backend fused" in [check["name"] for check in record["checks"]]
    assert ("fused" in compared, record["left_out"]) == (True, [])
    assert any(title.startswith("backend fused") and "2 cases" in title for title, _, _ in told)
    assert {total for _, _, total in told} == {len(record["checks"])}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)

    compared.clear()
    quick = lsg("doctor", "--quick", status=0)
    assert "left out by --quick: backend autograd, backend compiled, backend fused" in quick.stdout
    record = json.loads(lsg("doctor", "--quick", "--json", status=0).stdout)
    assert record["left_out"] == ["backend autograd", "backend compiled", "backend fused"]
    assert compared == []
    assert [check["name"] for check in record["checks"]] == ["packages", "gpu", "threads", "cache", "openmp"]


@pytest.mark.slow  # as above
def test_a_machine_in_order(lsg, monkeypatch):
    monkeypatch.setattr(doctor, "_openmp", lambda: doctor.Check("openmp", True, "of the test's other libraries"))
    monkeypatch.setattr(doctor, "DISK", 0)
    result = lsg("doctor")
    assert (result.exit_code, "FAILED" in result.stdout) == (0, False), result.stdout
    assert f"torch {torch.__version__}" in result.stdout
