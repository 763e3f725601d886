"""Backends against the equations in numpy, numbers worked out by hand, and plain autograd: memory layouts, reuse of memory, types."""

import math

import numpy as np
import pytest
import torch

from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, initial_state, step
from tests.exports import slow_if
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import (
    AVAILABLE,
    BACKENDS,
    METHODS,
    SURROGATES,
    Run,
    close,
    normal,
    parameters,
    run_backend,
    same,
)

DECAYS = (0.05, 0.2, 0.5, 0.9)
WIDTHS = (0.4, 1.0, 2.5)


def draw(T, threshold, surrogate, alpha, beta, seed):
    """A current and an arriving gradient for which no membrane potential is within 1e-9 of a switch."""
    current = normal(T, 2, 3, 2, 2, seed=seed, mean=0.4 * threshold, std=threshold).numpy()
    grad = normal(T, 2, 3, 2, 2, seed=seed + 1000).numpy()
    expected = oracle.lif(current, grad, beta, alpha, threshold, surrogate)
    assert oracle.margin(expected.u, threshold, alpha, surrogate) > 1e-9
    return current, grad, expected


@pytest.mark.parametrize("threshold", [0.5, pytest.param(1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("method", "surrogate"),
    [
        slow_if(surrogate != "rectangular" and method != "lsg", method, surrogate)
        for method in METHODS
        for surrogate in SURROGATES
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_layer_equals_numpy(backend, method, surrogate, threshold):
    """Spikes, dI and db of a layer, for several T, four decays and three widths."""
    fired, lengths = 0, (1, 2, 8) if threshold == 0.5 else (3, 10)
    for T in lengths:
        for i, start in enumerate(DECAYS):
            width = WIDTHS[(T + i) % 3]
            layer = LIF(
                decay=start, threshold=threshold, method=method, width=width, surrogate=surrogate, backend=backend
            ).double()
            beta, slope = oracle.decay(layer.b.item())
            # Rounded to float32.
            stored = {
                "width": float(layer.alpha if method == "isometric" else getattr(layer, "width", width)),
                "sigma": float(getattr(layer, "sigma", 0.0)),
            }
            alpha = oracle.WIDTHS[method](oracle.State(T, beta, threshold, **stored)).reshape(T, 1, 1, 1, 1)
            current, grad, expected = draw(T, threshold, surrogate, alpha, beta, seed=100 * T + i)
            leaf = torch.tensor(current, requires_grad=True)
            spikes = layer(leaf)
            spikes.backward(torch.tensor(grad))
            assert np.array_equal(spikes.detach().numpy(), expected.o), (T, start, width)
            assert close(leaf.grad, expected.d_current), (T, start, width)
            if layer.method.learns_decay:
                assert close(layer.b.grad, expected.d_beta.sum() * slope), (T, start, width)
                assert T == 1 or layer.b.grad != 0
            fired += expected.o.mean()
    assert 0.1 < fired / len(lengths) / len(DECAYS) < 0.6  # both branches of the reset were taken


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 2, 3), (5, 2, 3, 4), (5, 1, 2, 3, 4, 2)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_dimensions(backend, shape):
    current, grad = normal(*shape, seed=3, mean=0.2), normal(*shape, seed=4)
    expected = oracle.lif(current.numpy(), grad.numpy(), 0.5, 1.0, 0.5, "triangular")
    found = run_backend(backend, current, grad, parameters(0.5, 1.0, 0.5, "triangular"))
    assert np.array_equal(found.spikes.numpy(), expected.o)
    assert close(found.d_current, expected.d_current)
    assert close(found.d_beta, expected.d_beta.sum())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_potential_equal_to_the_threshold_fires(backend):
    """u >= v_th, not u > v_th; and the surrogate is at its peak there. 0.5 * 0.25 + 0.375 is exact."""
    current = torch.tensor([0.5, 0.5, 0.25, 0.375], dtype=torch.float64)
    found = run_backend(backend, current, torch.ones(4, dtype=torch.float64), parameters(0.5, 2.0))
    assert found.spikes.tolist() == [1, 1, 0, 1]
    assert found.d_current[3] == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_steps_by_hand(backend):
    """One neuron, beta 0.2, v_th 0.5, rectangular of width 0.5: gradient passes where u is in (0.25, 0.75).

    ====  ====  ======================  ====  ====  =======================================  =====================================
    t     I     u                       o     h     do                                       du
    ====  ====  ======================  ====  ====  =======================================  =====================================
    1     0.2   0.2                     0     0     1 - 0.2 * 0.20 * 2.704 = 0.89184         0.89184 * 0 + 0.2 * 2.704 = 0.5408
    2     0.5   0.2 * 0.2 + 0.5 = 0.54  1     2     2 - 0.2 * 0.54 * 6     = 1.352           1.352 * 2 + 0 (reset)     = 2.704
    3     0.3   0.3 (after reset)       0     2     3                                        3 * 2                     = 6
    ====  ====  ======================  ====  ====  =======================================  =====================================

    dbeta = du[2] u[1] (1 - o[1]) + du[3] u[2] (1 - o[2]) = 2.704 * 0.2 + 0 = 0.5408;  db = 0.5408 * 0.2 * 0.8 = 0.086528.
    """
    layer = LIF(decay=0.2, threshold=0.5, method="trainable-decay", width=0.5, backend=backend).double()
    with torch.no_grad():
        layer.b.fill_(math.log(0.25))  # beta = 0.2 to double precision
    current = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    spikes = layer(current)
    spikes.backward(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert spikes.tolist() == [0, 1, 0]
    assert current.grad.tolist() == pytest.approx([0.5408, 2.704, 6.0], rel=1e-12)
    assert layer.b.grad.item() == pytest.approx(0.086528, rel=1e-12)


# name -> (shape of a leaf, how the current is made of it); each is a differentiable view, or the leaf itself.
LAYOUTS = {
    "contiguous": ((5, 2, 3, 4, 4), lambda x: x),
    "transposed": ((4, 3, 2, 5), lambda x: x.permute(3, 2, 1, 0)),
    "every second": ((5, 2, 6, 4), lambda x: x[:, :, ::2, 1:]),
    "every second step": ((10, 2, 3), lambda x: x[::2]),
    "channels last": ((10, 4, 4, 3), lambda x: x.permute(0, 3, 1, 2).unflatten(0, (5, 2))),
    "static": ((2, 3, 4, 4), lambda x: x.expand(5, *x.shape)),
    "static channels last": ((2, 4, 4, 3), lambda x: x.permute(0, 3, 1, 2).expand(5, 2, 3, 4, 4)),
    "same in all channels": ((5, 2, 1, 4, 4), lambda x: x.expand(5, 2, 3, 4, 4)),
    "one step": ((1, 2, 3), lambda x: x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_layouts(backend, layout):
    """Spikes and gradients do not depend on how the current lies in memory, which is left as it was; nor on leave to use this memory."""
    shape, view = LAYOUTS[layout]
    leaf = normal(*shape, seed=1, mean=0.2)
    before, p = leaf.clone(), parameters(0.6, 1.2)
    grad = normal(*view(leaf).shape, seed=2)
    expected = run_backend("autograd", leaf, grad, p, shape=view)
    assert expected.spikes.any()
    assert same(run_backend(backend, leaf, grad, p, shape=view), expected)
    assert torch.equal(leaf, before)
    # Times 1: a tensor that nobody reads again, as the permission asks for.
    assert same(run_backend(backend, leaf, grad, p, shape=lambda x: view(x * 1), overwrite=True), expected)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_decay_and_width_that_broadcast(surrogate):
    """beta per channel and per neuron, alpha per timestep, per channel and per neuron and timestep."""
    current, grad = normal(4, 2, 3, 2, 2, seed=1, mean=0.2), normal(4, 2, 3, 2, 2, seed=2)
    betas = [(), (1,), (3, 1, 1), (3, 2, 2), (2, 1, 1, 1)]
    alphas = [(), (3, 1, 1), (4, 1, 1, 1, 1), (4, 1, 3, 1, 1), (4, 2, 3, 2, 2), (1, 1, 1, 1)]
    for beta_shape in betas:
        for alpha_shape in alphas:
            beta, alpha = normal(*beta_shape, seed=3).sigmoid(), normal(*alpha_shape, seed=4).exp()
            p = parameters(beta, alpha, surrogate=surrogate)
            expected, found = (run_backend(name, current, grad, p) for name in BACKENDS)
            assert found.d_beta.shape == beta_shape
            assert same(found, expected), (beta_shape, alpha_shape)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_sequence_is_the_repeated_step(backend, surrogate):
    """The pure step, repeated by hand from the initial state, gives the sequence's spikes and gradients."""
    leaf, grad, p = normal(5, 2, 3, seed=1, mean=0.2), normal(5, 2, 3, seed=2), parameters(0.7, 0.9, surrogate=surrogate)
    current, state, spikes = leaf.clone().requires_grad_(), initial_state(leaf[0]), []
    for t in range(5):
        before = (state.u.clone(), state.o.clone())
        o, after = step(current[t], state, p)
        assert torch.equal(state.u, before[0])
        assert torch.equal(state.o, before[1])
        assert after.o is o
        spikes.append(o)
        state = after
    stacked = torch.stack(spikes)
    expected = Run(stacked.detach(), *torch.autograd.grad(stacked, (current, p.beta), grad))
    assert same(run_backend(backend, leaf, grad, p), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_where_none_is_asked_for(backend):
    """Under no_grad, and for a current without gradient, the spikes are the same; beta still gets its gradient."""
    current, layer = normal(4, 3, seed=1, mean=0.3), LIF(method="lsg", backend=backend).double()
    with torch.no_grad():
        quiet = layer(current)
    spikes = layer(current)
    spikes.sum().backward()
    assert not quiet.requires_grad
    assert torch.equal(quiet, spikes.detach())
    assert layer.b.grad != 0


@pytest.mark.parametrize("shape", [(), (0,), (0, 2, 3, 4, 4)])
@pytest.mark.parametrize("backend", AVAILABLE)
def test_no_timestep_is_an_error(backend, shape):
    """A current without a time axis, or of no timestep, is refused with its shape."""
    with pytest.raises(ConfigError, match="at least one timestep"):
        LIF(backend=backend)(torch.zeros(shape))
