"""The fused backend: against the reference on random cases, against numpy, for any number of threads, and where others must take over.

``python -m benchmarks.stress --row 34`` runs thousands of the random cases.
"""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from lsgcli import models, registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, LIFParameters, TdBatchNorm2d
from lsgcli.neurons.kernels import fused, selftest
from lsgcli.neurons.kernels.auto import auto
from lsgcli.neurons.kernels.base import single_backward
from lsgcli.neurons.kernels.cpu import threads
from lsgcli.neurons.step import RESETS
from lsgcli.neurons.surrogates import Forms
from lsgcli.system.device import limited_threads
from tests.exports import slow_if
from tests.unit.neurons.cases import against_reference, large_case, random_case
from tests.unit.neurons.helpers import close, normal, parameters, run_backend, same
from tests.unit.neurons.oracle import JUMPS

CASES = 10


@pytest.mark.parametrize("group", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_cases(group):
    """Spikes are those of the reference, gradients within 2e-4; a case where rounding decides is passed over, and is rare."""
    passed_over = 0
    for seed in range(group * CASES, (group + 1) * CASES):
        case = random_case(seed)
        if group == 0 or case.dtype == torch.bfloat16:  # each shape of each type takes a second to compile
            case.surrogate = "rectangular" if case.dtype == torch.bfloat16 else "triangular"
        wrong = against_reference(case, "fused")
        passed_over += wrong is None
        assert not wrong, (seed, str(case), wrong)
    assert passed_over <= CASES / 4


@pytest.mark.parametrize("backend", ["fused", "auto"])
def test_float64_is_the_reference(backend):
    """Tests of the equations in float64 therefore need one of them."""
    current, grad = normal(4, 2, 3), normal(4, 2, 3, seed=1)
    found, expected = (run_backend(name, current, grad, parameters()) for name in (backend, "reference"))
    assert same(found, expected, 0)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("size", [(4, 5, 33, 16, 46), (4, 5, 33, 18, 46), (4, 1, 1200, 8, 8)])
def test_a_large_layer(size, pool):
    """Chunks that end in the middle of an image; a last block of fewer rows; rows that are cut into pieces."""
    case = large_case(size=size, pool=pool)
    found, exact = case.run("fused", torch.float32), case.run("reference", torch.float64)
    same = found.out.double() == exact.out
    assert same.double().mean() > 1 - 1e-5  # of half a million, a few potentials lie at the threshold
    assert all(close(found.others[name], exact.others[name], 2e-4) for name in ("beta", "gamma", "mu", "running variance"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"pool": 1}, {"residual": None}, {"size": (4, 1, 1200, 8, 8)}, {"layout": "static"}])
def test_gradients_written_over_what_was_kept_are_the_same(changes, dtype):
    """Bit for bit, in training and in evaluation; also where z is one image at all steps, whose memory is too small."""
    case = large_case("rectangular", **changes)
    for training in (True, False):
        case.norm = case.norm._replace(training=training)
        with single_backward():
            found = case.run("fused", dtype)
        assert found.same_bits(case.run("fused", dtype))


def test_when_gradients_are_written_over_what_was_kept():
    """Only where one backward pass was promised, only behind tdBN; a second pass says what is wrong."""

    def passes(norm, promised):
        weight = torch.ones((), requires_grad=True)
        z = normal(4, 2, 3, 8, 8).float().permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) * weight
        before, p = z.detach().clone(), LIF(method="lsg").parameters_for(z)
        with single_backward(promised):
            out = fused.fused.normalise_and_fire(z, norm, p)
        torch.autograd.grad(out.sum(), weight, retain_graph=True)
        return out, weight, torch.equal(z.detach(), before)

    norm = TdBatchNorm2d(3)
    out, weight, kept = passes(norm.parameters_for(torch.zeros(4, 2, 3, 8, 8)), promised=True)
    assert not kept
    with pytest.raises(RuntimeError, match="second backward pass"):
        torch.autograd.grad(out.sum(), weight)
    for arguments, promised in ((norm.parameters_for(torch.zeros(4, 2, 3, 8, 8)), False), (None, True)):
        out, weight, kept = passes(arguments, promised)
        assert kept
        torch.autograd.grad(out.sum(), weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", [0, 1, 2])
def test_same_bits_for_any_number_of_threads(pool, dtype, monkeypatch):
    """Which thread computes what changes no bit of spikes, gradients or statistics."""
    case = large_case("rectangular", pool=pool, **({} if pool else {"norm": None, "residual": None}))
    expected = case.run("fused", dtype)
    for number, openmp in ((2, True), (3, True), (3, False)):  # on macOS, threads are Python's
        with limited_threads(number), monkeypatch.context() as context:
            if not openmp:
                context.setattr(threads, "_openmp", lambda: None)
            assert case.run("fused", dtype).same_bits(expected)


@Forms(numba="y = x * inverse / 0.75; max(1 - y * y, 0) * inverse")
def parabola(x, width):
    return (1 - (x / (0.75 * width)).square()).clamp_min(0) / width


def bell(x, width):
    return (-(x * x) / width).exp()


@pytest.mark.parametrize("surrogate", [parabola, bell])
def test_surrogates_of_plug_ins(surrogate):
    """An expression is compiled, with assignments and fractions, in float32; without one, the reference computes the gradient."""
    current, gradients = normal(4, 3, 5, dtype=torch.float32), []
    assert fused.fused.supports(current, surrogate, "hard") == (surrogate is parabola)
    for backend in ("fused", "reference"):
        leaf = current.clone().requires_grad_()
        p = LIFParameters(torch.tensor(0.3), torch.tensor(1.25), 0.5, surrogate)
        registry.get("backend", backend)(leaf, p).square().sum().backward()
        gradients.append(leaf.grad)
    assert close(*gradients, 1e-6)
    assert gradients[0].any()


@pytest.mark.parametrize("backend", ["reference", slow_if(True, "fused")])  # whose kernel of atan takes seconds to compile
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_divergence_is_seen(value, training, backend):
    """A NaN or infinite current gives a gradient that is not finite."""
    case = large_case(surrogate="atan", pool=1, residual=None)
    case.z[1, 0, 0, 0, 0] = value
    case.norm = case.norm._replace(training=training)
    others = case.run(backend, torch.float32).others
    assert not others["gamma"].isfinite().all()
    assert not others["z"].isfinite().all()


@pytest.mark.parametrize("shape", [(2, 0, 3, 4, 4), (2, 3, 0, 4, 4), (2, 1, 3, 0, 4)])
def test_empty_tensors(shape):
    z = torch.zeros(shape, requires_grad=True)
    spikes = LIF(backend="fused")(z)
    spikes.sum().backward()
    assert spikes.shape == z.grad.shape == shape


def test_statistics_of_one_value_are_refused():
    """One value has no variance: tdBN says so, and a backend that is asked all the same."""
    norm, lif = TdBatchNorm2d(3), LIF(backend="fused")
    z = torch.zeros(1, 1, 3, 1, 1)
    with pytest.raises(ConfigError, match="one value"):
        norm.parameters_for(z)
    parameters = norm.parameters_for(torch.zeros(2, 1, 3, 1, 1))
    with pytest.raises(ValueError, match="more than 1 value"):
        lif.normalise_and_fire(parameters, z)
    assert lif.normalise_and_fire(norm.eval().parameters_for(z), z).shape == z.shape


def test_a_second_derivative_is_refused():
    """The gradient has no gradient; saying so is better than a wrong one."""
    z = normal(3, 2, 4, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(LIF(backend="fused")(z).square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def network(arch="vggsnn", size=16, **options):
    """A narrow network in training mode, its input, and a batch of gradients."""
    torch.manual_seed(0)
    model = models.build(
        arch, method="lsg", T=3, num_classes=3, in_channels=2, input_size=size, width_multiplier=0.05, **options
    )
    return model, normal(3, 4, 2, size, size, seed=1, mean=0.5, dtype=torch.float32)


def outcome(model, x):
    logits = model(x)
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad for p in model.parameters()), *model.buffers()]


@pytest.mark.parametrize("arch", ["vggsnn", "resnet19"])
def test_hooks_see_what_they_saw(arch):
    """With a hook on any module of a block, its input and output pass by, and the step is the same."""
    model, x = network(arch)
    other, seen = copy.deepcopy(model), []
    for module in other.modules():
        if isinstance(module, (LIF, TdBatchNorm2d, torch.nn.AvgPool2d)):
            module.register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    plain, hooked = outcome(model, x), outcome(other, x)
    expected = sum(isinstance(module, (LIF, TdBatchNorm2d, torch.nn.AvgPool2d)) for module in model.modules())
    assert len(seen) == expected
    assert all(a.isfinite().all() and b.isfinite().all() for a, b in seen)
    assert all(close(a, b, 1e-4) for a, b in zip(plain, hooked, strict=True) if b.dtype.is_floating_point and b.abs().max() > 0)


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("arch", ["vggsnn", "resnet19", "qkformer"])
def test_what_a_hook_keeps_stays(arch, backend):
    """No backend overwrites a current after a hook saw it, in float64 neither."""
    model, x = network(arch, backend=backend)
    model, kept = model.double(), []
    for module in model.modules():
        if not list(module.children()) or isinstance(module, LIF):
            module.register_forward_hook(lambda module, arguments, output: kept.append((output, output.clone())))
            module.register_forward_pre_hook(lambda module, arguments: kept.append((arguments[0], arguments[0].clone())))
    with torch.no_grad():
        model(x.double())
    assert len(kept) > 20
    assert all(torch.equal(seen, then) for seen, then in kept)


def test_a_subclass_fires_its_own_way():
    """What replaces ``forward`` is called, not the fused operation of the base class."""

    class Silent(LIF):
        def forward(self, current, *, overwrite=False):
            return torch.zeros_like(current)

    model, x = network()
    model.features[0].lif.__class__ = Silent
    assert not model.features[0](x).any()
    assert model.features[1](x.new_ones(3, 2, 3, 16, 16)).any()


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_backward_hooks_are_called(register):
    """Also where only the gradient is watched."""
    model, x = network()
    called = []
    getattr(model.features[0].lif, register)(lambda *arguments: called.append(1) and None)
    outcome(model, x)
    assert called == [1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_compute_the_same(copied):
    model, x = network(backend="fused")
    model(x)
    other = copied(model)
    assert list(other.state_dict()) == list(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(outcome(model, x), outcome(other, x), strict=True))


def test_without_numba(monkeypatch):
    """``auto`` goes on with the reference; whoever asked for ``fused`` is told what to install, or which device it is for."""
    with pytest.raises(ConfigError, match="expected cpu"):
        fused.fused.check(torch.device("cuda"))
    monkeypatch.setattr(fused, "_numba_problem", lambda: "no package numba")
    z = normal(3, 2, 4, dtype=torch.float32)
    assert torch.equal(LIF(backend="auto")(z), LIF(backend="reference")(z))
    with pytest.raises(ConfigError, match=r"(?s)no package numba.*pip install 'lsgcli'"):
        LIF(backend="fused")(z)


def test_a_broken_numba_is_reported_once_and_not_used(monkeypatch, caplog):
    monkeypatch.setattr(fused.importlib, "import_module", mock.Mock(side_effect=ImportError("numpy is too new")))
    fused._numba_problem.cache_clear()
    try:
        with pytest.raises(ConfigError, match="cannot be imported \\(numpy is too new\\)"):
            fused.fused.check(torch.device("cpu"))
        assert auto.fastest(torch.zeros(1)) is registry.get("backend", "reference")
        assert caplog.text.count("numba is installed but cannot be imported") == 1
    finally:
        fused._numba_problem.cache_clear()


def test_each_surrogate_and_reset_is_in_a_case_of_the_self_test():
    assert {case.surrogate for case in selftest.CASES} >= {*registry.names("surrogate")}
    assert {case.reset for case in selftest.CASES} == {*RESETS}


@pytest.mark.parametrize("case", selftest.CASES + selftest.FEW, ids=str)
def test_rounding_decides_about_no_spike(monkeypatch, case):
    """No potential is near its threshold, or near a jump of the surrogate, which the backward pass calls with u - v_th."""
    h, jump, nearest = registry.get("surrogate", case.surrogate), JUMPS.get(case.surrogate, 0.0), []

    def observed(x, width):
        nearest.append(min(x.abs().min(), (x.abs() - jump * width).abs().min()))
        return h(x, width)

    monkeypatch.setitem(registry._entries, ("surrogate", case.surrogate), observed)
    selftest.run(case, "reference", torch.float64, torch.device("cpu"))
    assert min(nearest) > 4e-6  # of potentials around 1


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
