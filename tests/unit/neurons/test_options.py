"""Options of the neuron: resets, detached reset, learned threshold, input gain, initial potential; every backend against numpy."""

import math

import numpy as np
import pytest
import torch

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.step import RESETS as TABLE
from lsgcli.neurons.step import Reset
from tests.unit.neurons import oracle
from tests.unit.neurons.cases import against_reference, case_with_options
from tests.unit.neurons.helpers import AVAILABLE, BACKENDS, SURROGATES, close, normal, parameters

RESETS = list(TABLE)
QUICK = (3,)  # random cases, whose kernels take seconds to compile


def softplus(q):
    """v_th, and its slope."""
    return math.log1p(math.exp(q)), 1 / (1 + math.exp(-q))


def drawn(T, seed, threshold=0.5):
    shape = (T, 2, 3, 2, 2)
    return normal(*shape, seed=seed, mean=0.4 * threshold, std=threshold), normal(*shape, seed=seed + 1000)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_reset_and_threshold(backend, surrogate, reset, detach):
    for T in range(1, 7):
        layer = LIF(
            decay=0.6,
            method="trainable-decay",
            width=0.8,
            surrogate=surrogate,
            backend=backend,
            reset=reset,
            detach_reset=detach,
            threshold_learned=True,
        ).double()
        current, grad = drawn(T, seed=T)
        (beta, of_b), (v_th, of_q) = oracle.decay(layer.b.item()), softplus(layer.q.item())
        assert v_th == pytest.approx(0.5, rel=1e-6)
        arguments = (current.numpy(), grad.numpy(), beta, 0.8, v_th, surrogate)
        expected = oracle.lif(*arguments, reset=reset, detach=detach)
        assert oracle.margin(expected.u, v_th, 0.8, surrogate) > 1e-9
        leaf = current.clone().requires_grad_()
        spikes = layer(leaf)
        spikes.backward(grad)
        assert np.array_equal(spikes.detach().numpy(), expected.o)
        assert close(leaf.grad, expected.d_current)
        assert close(layer.b.grad, expected.d_beta.sum() * of_b)
        assert close(layer.q.grad, np.float64(expected.d_threshold * of_q))
        if T == 6:
            others = [oracle.lif(*arguments, reset=other) for other in RESETS if other != reset]
            assert all(not np.allclose(expected.d_current, other.d_current) for other in others)
            assert 0.1 < expected.o.mean() < 0.8


@pytest.mark.parametrize("detach", [False, True])
def test_a_further_reset(monkeypatch, detach):
    """A row of the table is all that a reset needs: here, a spike removes u / 2 + v_th / 4."""
    row = Reset(lambda u, o, v_th: u - o * (u / 2 + v_th / 4), lambda u, v_th: u / 2 + v_th / 4, 0.5, 0.25)
    monkeypatch.setitem(TABLE, "half", row)
    current, grad = drawn(6, seed=1)
    gradients = []
    for name in BACKENDS:
        leaves = [current.clone(), torch.tensor(0.6).double(), torch.tensor(0.5).double()]
        leaf, beta, v_th = (x.requires_grad_() for x in leaves)
        p = parameters(surrogate="triangular")._replace(beta=beta, threshold=v_th, reset="half", detach=detach)
        spikes = registry.get("backend", name)(leaf, p)
        gradients.append([spikes.detach(), *torch.autograd.grad(spikes, leaves, grad)])
    assert 0.1 < gradients[0][0].mean() < 0.8
    assert all(close(found, expected) for found, expected in zip(*gradients, strict=True))


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_input_gain(backend, normed, per):
    """The current is (1 - beta) I, whose gradient also reaches b; behind tdBN with a residual, or alone."""
    arguments = {"decay": 0.6, "method": "trainable-decay", "decay_per": per, "channels": 3, "reset": "soft"}
    layer = LIF(backend=backend, surrogate="triangular", input_gain="1-beta", **arguments).double()
    current, grad = drawn(4, seed=3, threshold=1.0)
    residual = normal(*current.shape, seed=5, std=0.3)
    beta, slope = oracle.decay(layer.b.detach().numpy().reshape(-1, *[1] * (2 * (per == "channel"))))
    whole, norm = current.numpy(), TdBatchNorm2d(3, threshold=0.7).double()
    if normed:
        whole = oracle.tdbn(whole, np.ones(3), np.zeros(3), 0.7) + residual.numpy()
    expected = oracle.lif((1 - beta) * whole, grad.numpy(), beta, 1.0, 0.5, "triangular", reset="soft")
    leaf = current.clone().requires_grad_()
    fused = layer.normalise_and_fire
    spikes = fused(norm.parameters_for(leaf), leaf * 1, residual=residual) if normed else layer(leaf)
    spikes.backward(grad)
    assert np.array_equal(spikes.detach().numpy(), expected.o)
    d_beta = expected.d_beta - (expected.d_current * whole).sum(0)
    summed = d_beta.sum((0, 2, 3)) if per == "channel" else d_beta.sum()
    assert close(layer.b.grad, (summed * slope.reshape(np.shape(summed))))
    if normed:
        assert close(norm.bias.grad, ((1 - beta) * expected.d_current).sum((0, 1, 3, 4)))
    else:
        assert close(leaf.grad, (1 - beta) * expected.d_current)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_initial_potential(backend, normed, reset):
    """The first step adds beta mu; a training step moves mu a tenth of the way to what remains in neurons that fired."""
    layer = LIF(decay=0.6, method="trainable-decay", backend=backend, reset=reset, init_potential="measured").double()
    current, grad = drawn(5, seed=4)
    beta, slope = oracle.decay(layer.b.item())
    norm = NormParameters(*(torch.full((3,), x, dtype=torch.float64) for x in (1.0, 0.2, 0.0, 1.0)), True, 0.1, 1e-5, 0.5)
    whole = oracle.tdbn(current.numpy(), np.ones(3), np.full(3, 0.2), 0.5) if normed else current.numpy()
    mu = 0.0
    for _ in range(2):
        shifted = whole + np.where(np.arange(5) == 0, beta * mu, 0.0).reshape(5, 1, 1, 1, 1)
        expected = oracle.lif(shifted, grad.numpy(), beta, 1.0, 0.5, "rectangular", reset=reset)
        layer.b.grad = None
        spikes = layer.normalise_and_fire(norm, current.clone()) if normed else layer(current)
        spikes.backward(grad)
        assert np.array_equal(spikes.detach().numpy(), expected.o)
        assert close(layer.b.grad, (expected.d_beta.sum() + (expected.d_current[0] * mu).sum()) * slope)
        layer.end_step()
        u, o = expected.u[-1], expected.o[-1]
        remains = {"hard": u * (1 - o), "soft": u - 0.5 * o, "none": u}[reset]
        mu = 0.9 * mu + 0.1 * remains[expected.o.max(0) > 0].mean()
        assert layer.initial.item() == pytest.approx(mu, rel=1e-9)
    assert mu != 0
    before = layer.initial.clone()
    layer.eval()(current)
    layer.end_step()
    assert torch.equal(layer.initial, before)


@pytest.mark.parametrize("seeds", [QUICK, pytest.param(range(1000), marks=pytest.mark.slow)], ids=["some", "many"])
@pytest.mark.skipif("fused" not in AVAILABLE, reason="needs numba")
def test_random_cases(seeds):
    """Against the reference in float64; a case where rounding decides is omitted."""
    omitted = 0
    for seed in seeds:
        case = case_with_options(seed)
        wrong = against_reference(case, "fused")
        omitted += wrong is None
        assert not wrong, (seed, str(case), wrong)
    assert omitted <= len(seeds) / 4


@pytest.mark.parametrize("threshold", [1e-6, 0.5, 1.0, 30.0, 1e6])
def test_learned_threshold_starts_at_the_setting(threshold):
    layer = LIF(threshold=threshold, threshold_learned=True)
    assert layer.threshold.item() == pytest.approx(threshold, rel=1e-3)


def test_widths_follow_the_learned_threshold():
    """alpha = 2 v_th sqrt(1 + beta^2) of the current v_th, without gradient."""
    layer = LIF(method="lsg", threshold_learned=True)
    with torch.no_grad():
        layer.q.fill_(2.0)
    v_th, beta = softplus(2.0)[0], layer.beta.item()
    assert layer.alpha.item() == pytest.approx(2 * v_th * math.sqrt(1 + beta**2), rel=1e-6)
    assert not layer.alpha.requires_grad


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool])
def test_currents_of_integers_are_refused(kind):
    """Potentials would be truncated to integers."""
    current = torch.ones(2, 3, 4).to(kind)
    for call in (LIF(), lambda x: LIF().normalise_and_fire(None, x[..., None, None])):
        with pytest.raises(ConfigError, match=f"found a current of type {kind}"):
            call(current)
