"""The Triton backend: against the reference on random cases, in float64 operation by operation, and where others must take over.

Triton's interpreter must be chosen before Triton is imported. So where there is no GPU, these tests run in a process of their own,
which ``test_everything_in_the_interpreter`` starts, together with the tests of every backend.
``TRITON_INTERPRET=1 pytest -n 0`` runs them directly, and ``TRITON_INTERPRET=1 python -m tests.stress --row 34`` runs thousands of the random cases.
"""

import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu_kernels import ARCHITECTURES
from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, LIFParameters
from lsgcli.neurons.kernels import triton
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.kernels.gpu import interpreted
from tests.unit.neurons import cases
from tests.unit.neurons.cases import differences, random_case
from tests.unit.neurons.helpers import SURROGATES, close, normal

HERE = Path(__file__)
INSTALLED = find_spec("triton") is not None
DEVICE = torch.device("cuda" if torch.cuda.is_available() and not interpreted() else "cpu")
HERE_AND_NOW = INSTALLED and triton.triton.available(DEVICE)
needs_triton = pytest.mark.skipif(not INSTALLED, reason="needs the package triton")


def runs(test):
    """Decorator of a test that runs where Triton does: on a GPU, or in its interpreter."""
    reason = "runs in a process of its own, under Triton's interpreter" if INSTALLED else "needs the package triton"
    return pytest.mark.cuda(pytest.mark.skipif(not HERE_AND_NOW, reason=reason)(test))


CASES, GROUPS = (10 if interpreted() else 30), 8
DOUBLE = 1e-12  # relative: what float64 throughout is held to


def compare(case):
    """What differs from the reference in float64 by more than is allowed."""
    return differences(case, case.run("triton", case.dtype, DEVICE), case.run("reference", torch.float64))


def same_in_float64(case):
    """Whether, with float64 arithmetic, output, gradients and statistics are those of the reference."""
    found, exact = case.run("triton", torch.float64, DEVICE), case.run("reference", torch.float64)
    return torch.equal(found.out, exact.out) and all(
        close(found.others[name], value, DOUBLE) for name, value in exact.others.items()
    )


def large_case(surrogate="triangular", columns=70, **changes):
    """A case of more than one tile in each direction, with everything in it."""
    return cases.large_case(surrogate, (2, 3, columns, 6, 7), **changes)


def alone(case):
    """The neurons of a case, without tdBN, residual and pool."""
    return dataclasses.replace(case, pool=0, norm=None, residual=None)


def call(case, **changes):
    """The result of ``normalise_and_fire`` in float32, without gradient."""
    case = dataclasses.replace(case, **changes)
    floats = [None if x is None else x.float().to(DEVICE) for x in (case.z, case.residual, case.beta, case.alpha)]
    norm = case.norm and NormParameters(*(v.float().to(DEVICE) for v in case.norm[:4]), *case.norm[4:])
    p = LIFParameters(*floats[2:], case.threshold, registry.get("surrogate", case.surrogate))
    with torch.no_grad():
        return triton.triton.normalise_and_fire(floats[0], norm, p, residual=floats[1], pool=case.pool).cpu()


@runs
@pytest.mark.parametrize("group", range(GROUPS))
def test_random_cases(group):
    """Spikes are those of the reference, gradients within 2e-4; a case where rounding decides is passed over, and is rare."""
    passed_over = 0
    for seed in range(group * CASES, (group + 1) * CASES):
        case = random_case(seed)
        if case.near_a_switch():
            passed_over += 1
            continue
        wrong = compare(case)
        assert not wrong, (seed, str(case), wrong)
    assert passed_over <= CASES / 4


@runs
@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_float64(surrogate, pool):
    """In float64 the arithmetic is float64 throughout."""
    assert same_in_float64(large_case(surrogate, columns=5, pool=pool, threshold=0.7))


@runs
@pytest.mark.parametrize("parts", [1, 3, 512])
def test_many_tiles(parts, monkeypatch):
    """Rows and columns that take several programs; moments of one part, of some with several tiles each, of one a tile."""
    monkeypatch.setattr("lsgcli.neurons.kernels.gpu.sequence.PARTS", parts)
    assert same_in_float64(large_case())
    assert same_in_float64(large_case(pool=1, layout="batch first"))


@runs
def test_a_mean_far_from_zero_costs_no_digits():
    """Variance, spikes and gradients in float32 where the mean is 1,000 standard deviations, of values that float32 holds exactly."""
    norm = NormParameters(*(v[:5] for v in large_case().norm[:4]), True, 1.0, 1e-5, 0.5)
    case = large_case(z=(normal(4, 2, 5, 9, 9, seed=1) * 1024).round() / 1024 + 1000, residual=None, norm=norm)
    single, exact = case.run("triton", torch.float32, DEVICE), case.run("reference", torch.float64)
    assert (single.out != exact.out).double().mean() < 1e-3
    assert close(single.others["running mean"], exact.others["running mean"], 1e-7)
    assert close(single.others["running variance"], exact.others["running variance"], 2e-6)


@runs
@pytest.mark.parametrize("kind", [lambda case: case, alone], ids=["all", "neurons"])
def test_same_bits_every_time(kind):
    """Two runs of one case agree in every bit of everything."""
    first, second = (kind(large_case()).run("triton", torch.float32, DEVICE) for _ in range(2))
    assert first.same_bits(second)


@runs
@pytest.mark.parametrize(
    "kind", [lambda case: dataclasses.replace(case, residual=None, pool=1), alone], ids=["tdBN", "neurons"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_input_only(dtype, kind):
    """Of the size of the activations, z alone is kept for the backward pass: neither u nor spikes nor a normalised copy."""
    case, kept = kind(large_case()), {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        case.run("triton", dtype, DEVICE)
    size = case.z.numel() * dtype.itemsize
    assert max(kept.values()) == size
    assert sum(kept.values()) < 1.25 * size


@runs
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy's, in the interpreter
def test_divergence_is_seen(value, training):
    """A NaN or infinite current gives a gradient that is not finite, as from the reference."""
    for backend in ("reference", "triton"):
        case = large_case("atan", pool=1, residual=None)
        case.z[0, 0, 0, 0, 0] = value
        case.norm = case.norm._replace(training=training)
        others = case.run(backend, torch.float32, DEVICE).others
        assert not others["gamma"].isfinite().all(), backend
        assert not others["z"].isfinite().all(), backend


@runs
def test_steps_far_apart_in_memory(tmp_path):
    """Two timesteps that lie more than 2^31 numbers apart, in a file that takes no room on the disk."""
    apart, case = 2**31 + 64, dataclasses.replace(large_case(columns=5), residual=None, pool=1)
    if DEVICE.type == "cuda":
        memory = torch.empty(apart + case.z[0].numel(), dtype=torch.float32, device=DEVICE)
    else:
        memory = torch.from_file(str(tmp_path / "memory"), shared=True, size=apart + case.z[0].numel(), dtype=torch.float32)
    steps = memory.as_strided((2, case.z[0].numel()), (apart, 1))
    z = steps.view(2, 3, 6, 7, 5).permute(0, 1, 4, 2, 3).copy_(case.z)
    layer = LIF(backend="triton").to(DEVICE)
    assert torch.equal(layer(z).cpu(), LIF(backend="reference")(case.z.float()))
    norm = NormParameters(*(v.float().to(DEVICE) for v in case.norm[:4]), *case.norm[4:])
    assert torch.equal(layer.normalise_and_fire(norm, z), layer.normalise_and_fire(norm, z.clone()))


@runs
def test_an_addend_of_another_shape():
    """It is expanded as by the operator +, its gradient summed; what does not fit is refused, and nothing read out of bounds."""
    z = large_case().z.to(DEVICE)
    p = LIF(backend="triton").double().to(DEVICE).parameters_for(z)
    residual = normal(70, 1, 1, seed=2).to(DEVICE).requires_grad_()
    gradients = []
    for given in (residual, residual.expand_as(z)):
        out = triton.triton.normalise_and_fire(z, None, p, residual=given)
        gradients += torch.autograd.grad(out.sum(), residual)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)
    with pytest.raises(RuntimeError, match="expand"):
        triton.triton.normalise_and_fire(z, None, p, residual=z[:, :2])


@runs
@pytest.mark.parametrize(
    "changes",
    [{"beta": normal(6, 1, seed=8).sigmoid()}, {"alpha": normal(2, 3, 1, 1, 7, seed=8).exp()}],
    ids=["row", "image and column"],
)
def test_a_decay_or_width_within_a_channel(changes):
    """Behind a tdBN the kernels do not know it: it runs all the same, and gives the same."""
    assert same_in_float64(large_case(columns=9, **changes))


@runs
def test_a_surrogate_of_a_plug_in():
    """One that the kernels do not know: it runs all the same, and gives the same."""
    gradients = []
    for backend in ("triton", "reference"):
        layer, leaf = LIF(backend=backend, method="lsg").to(DEVICE), normal(4, 3, 5, dtype=torch.float32).to(DEVICE)
        layer.surrogate = lambda x, width: torch.exp(-(x / width).square() * torch.pi) / width
        out = layer(leaf.requires_grad_())
        gradients.append((out, *torch.autograd.grad(out.sum(), (leaf, layer.b))))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@runs
@pytest.mark.parametrize("pool", [4, 5, 8, 9])
def test_large_windows(pool):
    """The lanes of a window fill a tile, and one more than a tile takes."""
    norm = NormParameters(*(v[:20] for v in large_case().norm[:4]), True, 0.1, 1e-5, 0.5)
    assert same_in_float64(large_case(z=normal(2, 1, 20, 9, 10, seed=1), residual=None, norm=norm, pool=pool))


@runs
def test_sizes_at_the_edge():
    """A window larger than the image, no images, and one value per channel."""
    case = large_case(residual=None)
    with pytest.raises(RuntimeError, match="too small"):
        call(case, pool=7)
    assert call(case, z=case.z[:, :0], norm=None, pool=1).shape == (2, 0, 70, 6, 7)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        call(case, z=case.z[:1, :1, :, :1, :1], pool=1)


def test_where_it_cannot_run(monkeypatch):
    """Without Triton, with an old one, on an old GPU, and on a CPU: it is not available, and says what to do."""
    current, cuda = torch.zeros(2, 3, 1, 4, 4), torch.device("cuda", 63)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton, "_installed", lambda: True)
    layer = LIF(backend="triton")
    for run in (layer, lambda z: layer.normalise_and_fire(None, z)):
        with pytest.raises(ConfigError, match="found data on the device cpu, expected a CUDA device"):
            run(current)
    assert torch.equal(LIF()(current), LIF(backend="reference")(current))
    found = SimpleNamespace(__version__="3.3.0+git1")
    monkeypatch.setitem(sys.modules, "triton", found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ConfigError, match=r"found cuda:63 of compute capability 7.5, expected 8.0"):
        triton.triton.check(cuda)
    found.__version__ = "3.2.0"
    with pytest.raises(ConfigError, match=r"found Triton 3.2.0, expected 3.3"):
        triton.triton.check(cuda)
    monkeypatch.setattr(triton, "_installed", lambda: False)
    with pytest.raises(ConfigError, match="found no package triton"):
        triton.triton.check(cuda)


@pytest.mark.skipif(not interpreted(), reason="is about the interpreter")
def test_the_interpreter_is_asked_for_and_there():
    """Otherwise the process that ``test_everything_in_the_interpreter`` starts would skip everything, and succeed."""
    assert HERE_AND_NOW


def in_a_process(*arguments, **environment):
    """Run Python in a process of its own; its output, where it fails."""
    variables = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=HERE.parents[3], env=variables | environment, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


not_below = pytest.mark.skipif(interpreted(), reason="done by the process that started this one")


def in_the_interpreter(*selection):
    """The output of pytest in Triton's interpreter, where a test fails."""
    return in_a_process("-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *map(str, selection), TRITON_INTERPRET="1")


ALL = [f"test_{name}.py" for name in ("triton", "against_numpy", "against_autograd", "shared_batch", "options", "traffic")]


@pytest.mark.slow
@needs_triton
@not_below
@pytest.mark.parametrize("file", ALL)
def test_everything_in_the_interpreter(file):
    """All of the above that needs Triton, and what every backend is put through, but for the sweeps that are slow without it."""
    if file == HERE.name and HERE_AND_NOW:
        pytest.skip("the tests run in this process, on a GPU")
    assert not in_the_interpreter(HERE.with_name(file), "-k", "triton")


@pytest.mark.slow
@needs_triton
@not_below
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is built for Linux")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--architecture", "sm_90", "--type", "bfloat16", "--few"),
        ("--architecture", next(iter(ARCHITECTURES))),  # all: python -m benchmarks.gpu_kernels
    ],
    ids=" ".join,
)
def test_compiles(arguments, tmp_path):
    """Every kernel becomes machine code of a GPU that need not be there, without spilled registers or too much shared memory."""
    words = ("-W", "error", "-m", "benchmarks.gpu_kernels", "--check", *arguments)
    assert not in_a_process(*words, TRITON_CACHE_DIR=str(tmp_path))
