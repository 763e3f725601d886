"""Every backend against the numpy form of the equations and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from lsgcli.neurons import LIF
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import BACKENDS, METHODS, SURROGATES, close, normal, parameters, run_backend

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
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("method", METHODS)
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
    """A single neuron (T,) up to six dimensions."""
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
