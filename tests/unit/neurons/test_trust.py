"""Kernels are tested on the device that runs them before ``auto`` uses them; kernels broken on purpose are not used."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import lsgcli
from lsgcli import registry
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels import auto, selftest, trust
from lsgcli.neurons.kernels.reference import Reference
from lsgcli.neurons.kernels.selftest import Result

CPU = torch.device("cpu")
BROKEN = Result("a case", 0.5, "forward: spikes of a case: relative error 5.0e-01")


class Compiled(Reference):
    """A backend whose kernels are compiled for a device; ``here`` is what names device and versions."""

    here = "a card"

    def conditions(self, device):
        return self.here


@pytest.fixture
def first_use(monkeypatch, tmp_path):
    """Let ``auto`` use ``Compiled`` on CPUs as a new process does, with these results of its self-test, which are counted."""
    tests = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(registry._entries, ("backend", "compiled"), Compiled())
    monkeypatch.setitem(auto.FASTEST, "cpu", "compiled")

    def use(*results):
        monkeypatch.setattr(trust, "_in_a_process", lambda name, device: tests.append(name) or list(results))
        trust.trusted.cache_clear()
        LIF(backend="auto")(torch.zeros(3, 2))
        return type(auto.auto.fastest(torch.zeros(1))).__name__, len(tests)

    yield use
    trust.trusted.cache_clear()


def test_tested_once(first_use, monkeypatch, caplog):
    """The next process reads the result; another card, driver or version is tested again."""
    with caplog.at_level("INFO", "lsg"):
        assert first_use(Result("a case", 1e-7)) == ("Compiled", 1)
        assert caplog.text.count("testing the kernels of compiled on a card (once)") == 1
        assert first_use(BROKEN) == ("Compiled", 1)
        assert len(caplog.records) == 1
    monkeypatch.setattr(Compiled, "here", "another card")
    assert first_use(BROKEN) == ("Reference", 2)


def test_kernels_that_fail_are_not_used(first_use, caplog):
    """One warning in each process says what differs; ``lsg doctor`` tests again, and its result counts."""
    passed = Result("another case", 1e-7)
    for _ in range(2):
        caplog.clear()
        assert first_use(passed, BROKEN) == ("Reference", 1)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "forward: spikes of a case: relative error 5.0e-01" in caplog.text
        assert "--backend compiled" in caplog.text
    first_use(passed)
    assert trust.examined("compiled", CPU) == [passed]
    assert first_use(passed) == ("Compiled", 2)


@pytest.mark.parametrize("content", ["", "[]", '{"failure": 1}'])
def test_a_damaged_result_is_replaced(first_use, tmp_path, content):
    first_use(Result("a case", 1e-7))
    (file,) = (tmp_path / "lsg" / "kernels").glob("tested-*.json")
    file.write_text(content)
    assert first_use(Result("a case", 1e-7)) == ("Compiled", 2)
    assert json.loads(file.read_text())["failure"] == ""


def test_nowhere_to_keep_the_result(first_use, monkeypatch, caplog):
    """Every process tests, and goes on."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert first_use(Result("a case", 1e-7)) == ("Compiled", 1)
    assert "tested in every run" in caplog.text
    assert first_use(BROKEN) == ("Reference", 2)
    assert trust.examined("compiled", CPU) == [BROKEN]


def test_one_of_several_processes_tests(first_use, monkeypatch, caplog):
    """The others wait for its result."""
    first_use()
    monkeypatch.setattr(Compiled, "here", "another card")
    calls = []

    def slow(name, device):
        calls.append(name)
        time.sleep(0.3)
        return [BROKEN]

    monkeypatch.setattr(trust, "_in_a_process", slow)
    verdicts = []
    ask = trust.trusted.__wrapped__
    threads = [threading.Thread(target=lambda: verdicts.append(ask("compiled", CPU))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (verdicts, len(calls)) == ([False] * 3, 1)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "b: process ended by SIGSEGV"),
        (
            "raise RuntimeError('an illegal memory access')",
            "b: process ended with status 1: RuntimeError: an illegal memory access",
        ),
        ("import time; time.sleep(60)", "b: no result after 2 s"),
        ('print(\'["b", 1e-7, ""]\')', None),
    ],
)
def test_what_ends_the_process(monkeypatch, tmp_path, code, failure):
    """A crash, a CUDA error that no later call survives, and a kernel that hangs count as failures of their case."""
    header = "import json; print(json.dumps(['a', 'b'])); print(json.dumps(['a', 1e-7, '']), flush=True)"
    (tmp_path / "own_selftest.py").write_text(f"{header}\n{code}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trust, "PROCESS", "own_selftest")
    monkeypatch.setattr(trust, "LIMIT", 2.0)
    first, second = trust._in_a_process("triton", CPU)
    assert first == Result("a", 1e-7)
    assert second == (Result("b", 1e-7) if failure is None else Result("b", None, failure))


def test_where_no_process_can_use_the_device(monkeypatch, tmp_path):
    """As on a GPU in exclusive mode: the self-test runs here."""
    (tmp_path / "own_selftest.py").write_text("raise RuntimeError('the device is in use')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trust, "PROCESS", "own_selftest")
    results = trust._in_a_process("autograd", CPU)
    assert [result.case for result in results] == [str(case) for case in selftest.cases("autograd")]
    assert not any(result.failure for result in results)


def test_an_input_at_a_switch_is_seen():
    """A potential at the threshold, or at an edge of the rectangle, is near; drawn inputs have none."""
    case = selftest.CASES[0]
    leaves = selftest._drawn(case)
    assert not selftest._near(case, leaves).any()
    _, p = selftest._parameters(case, leaves, torch.float64, CPU)
    for value in (case.threshold, case.threshold + float(p.alpha[0, 0, 0, 0, 0]) / 2):
        leaves["current"][0, 1, 2, 3, 4] = value
        assert selftest._near(case, leaves).nonzero().tolist() == [[1, 2, 3, 4]]


# Kernels broken on purpose: kernel -> what is wrong -> source text after the kernel's definition, and what replaces it.
BREAKS = {
    "moments": {
        "index": ("z += BLOCK_R * columns", "z += BLOCK_R"),
        "mask": ("distance = tl.where(left > 0, value - mean, 0.0)", "distance = value - mean"),
        "reset": ("left -= BLOCK_R\n", "left -= 0\n"),
        "constant": ("count += 1.0", "count += 2.0"),
        "exception": ("share = 1.0 / count", "share = 1.0 / number"),
    },
    "forward": {
        "index": ("out_at, out_valid = row * columns + c,", "out_at, out_valid = row * columns + c + 1,"),
        "mask": (", mask=out_valid)", ")"),
        "reset": ("rest = _remains(u, threshold, RESET)", "rest = u"),
        "constant": ("1.0 * POOL * POOL", "2.0 * POOL"),
        "exception": ("fired = u >= threshold", "fired = u >= v_threshold"),
    },
    "backward": {
        "index": ("alpha -= alpha_step", "alpha -= 0"),
        "mask": ("tl.load(grad + out_at, mask=valid, other=0.0)", "tl.load(grad + out_at)"),
        "reset": ("later = quiet", "later = later"),
        "constant": ("arriving / (POOL * POOL)", "arriving / POOL"),
        "exception": ("du = arriving * h + later", "du = tl.dot(arriving, h, later, wrong=True)"),
    },
}
SCRIPT = """
import json, logging, sys
import torch
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels import auto
logging.basicConfig(format="%(levelname)s %(message)s", level="INFO")
auto.FASTEST["cpu"] = "triton"
z = torch.randn(3, 2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
outcomes = []
for backend in ("auto", "auto", "reference"):
    layer, leaf = LIF(backend=backend), z.clone().requires_grad_()
    out = layer(leaf)
    outcomes.append([out, *torch.autograd.grad(out.sum(), (leaf, layer.b))])
close = [all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, outcomes[-1])) for one in outcomes]
print(json.dumps({"used": type(auto.auto.fastest(z)).__name__, "close": all(close)}))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, and a function that runs Python on it in Triton's interpreter, with a cache folder of its own."""
    copy = tmp_path / "copy" / "lsgcli"
    shutil.copytree(Path(lsgcli.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*words):
        own = {"PYTHONPATH": str(copy.parent), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TRITON_INTERPRET": "1"}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=os.environ | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    return copy, run


def broken(copy, kernel, kind):
    """Break a kernel of a copy of the package."""
    file = copy / "neurons" / "kernels" / "gpu" / "kernels.py"
    head, separator, rest = file.read_text().partition(f"def {kernel}(")
    assert BREAKS[kernel][kind][0] in rest
    file.write_text(head + separator + rest.replace(*BREAKS[kernel][kind], 1))


interpreter = pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")


@pytest.mark.slow
@interpreter
def test_kernels_in_order_are_used(package):
    """The first process tests them, with one line on stderr; the second reads the result, and says nothing."""
    _, run = package
    for lines in (1, 0):
        done = run("-c", SCRIPT)
        assert json.loads(done.stdout) == {"used": "Triton", "close": True}
        assert (
            len(done.stderr.splitlines()) == done.stderr.count("testing the kernels of triton on Triton's interpreter") == lines
        )


@pytest.mark.slow
@interpreter
@pytest.mark.parametrize(("kernel", "kind"), [(kernel, kind) for kernel, kinds in BREAKS.items() for kind in kinds])
def test_broken_kernels_are_caught(package, kernel, kind):
    """At first use, the program continues with the reference, and one warning names the kernel."""
    copy, run = package
    broken(copy, kernel, kind)
    done = run("-c", SCRIPT)
    assert json.loads(done.stdout) == {"used": "Reference", "close": True}
    assert done.stderr.count("WARNING") == 1
    # A store out of bounds may also end the process of the self-test.
    assert re.search(rf"self-test failed:\n  ({kernel}: |.*: process ended by SIG)", done.stderr)
