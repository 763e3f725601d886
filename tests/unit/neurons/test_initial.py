"""Initial weights of networks without normalisation, against simulated neurons."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from lsgcli.neurons import initial
from lsgcli.neurons.surrogates import rectangular
from tests.exports import slow_if

V_TH, RATE = 0.5, 0.1


def neurons(T, beta, reset="hard", gain=1.0):
    return initial.Neurons(beta, V_TH, gain, reset, rectangular, T, RATE)


def simulated(T, beta, current, reset="hard", n=200_000):
    """Potentials, spikes and what remains of the potentials, (T, n), of neurons whose currents are ``current(t)``."""
    r, found = np.zeros(n), []
    for t in range(T):
        u = beta * r + current(t)
        o = u >= V_TH
        r = {"hard": u * (1 - o), "soft": u - V_TH * o, "none": u}[reset]
        found.append((u, o))
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def noise(std, n):
    rng = np.random.default_rng(0)
    return lambda t: std * rng.standard_normal(n)


QUICK = {(4, 0.2), (10, 0.9)}
GRID = [(T, beta) for T in (2, 4, 10, 50) for beta in (0.0, 0.2, 0.5, 0.9, 0.99)]


@pytest.mark.parametrize(("T", "beta"), [slow_if(case not in QUICK, *case) for case in GRID])
def test_spikeinit_against_simulated_neurons(T, beta):
    """They fire at the rate; with the width, white gradients of their spikes have the same mean square behind the weights."""
    n = 300_000
    about = neurons(T, beta)
    s, _ = initial.SCALES["spikeinit"](about)
    u, o = simulated(T, beta, noise(s * math.sqrt(RATE), n), n=n)
    assert o.mean() == pytest.approx(RATE, rel=0.01)
    ratio, std = initial.width_ratio(about, s)
    assert u.std() == pytest.approx(std, rel=0.01)
    h = (np.abs(u - V_TH) < ratio * std / 2) / (ratio * std)
    rng, du, square = np.random.default_rng(1), np.zeros(n), 0.0
    for t in reversed(range(T)):
        du = h[t] * rng.standard_normal(n) + beta * (1 - o[t]) * du
        square += (du**2).mean() / T
    # The equation takes spikes as independent of the gradient; in simulated neurons, those near the threshold pass it on.
    assert s**2 * square == pytest.approx(1, abs=0.02 if beta <= 0.5 else 0.15)


@pytest.mark.parametrize("reset", ["soft", "none"])
def test_other_resets(reset):
    std = initial.balanced(neurons(5, 0.8, reset))
    _, o = simulated(5, 0.8, noise(std, 200_000), reset)
    assert o.mean() == pytest.approx(RATE, rel=0.01)


def test_constant_currents():
    std = initial.balanced_constant(neurons(6, 0.7))
    values = noise(std, 200_000)(0)
    assert simulated(6, 0.7, lambda t: values)[1].mean() == pytest.approx(RATE, rel=0.02)


@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_the_equations_of_the_source(beta):
    """Of many timesteps and a normal u before the reset, N(m, r^2), its moments and E[h^2] have closed forms."""
    about = neurons(60, beta)
    s, _ = initial.SCALES["spikeinit"](about)
    m, square = 0.0, 1.0
    for _ in range(200):
        r = math.sqrt(square - m**2)
        a = (V_TH - m) / r
        below, density = norm.cdf(a), norm.pdf(a)
        left = (m**2 + r**2) * below - r * (V_TH + m) * density
        m, square = beta * (m * below - r * density), beta**2 * left + s**2 * RATE
    assert 1 - norm.cdf(a) == pytest.approx(RATE, rel=0.03)
    ratio, std = initial.width_ratio(about, s)
    assert std == pytest.approx(r, rel=0.02)
    half = ratio * std / 2
    inside = norm.cdf((V_TH + half - m) / r) - norm.cdf((V_TH - half - m) / r)
    assert s**2 * inside / (ratio * std) ** 2 == pytest.approx(1 - (1 - RATE) * beta**2, rel=0.05)


@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_scales_by_hand(gain):
    """v_th 0.5, beta 0.8, p 0.1."""
    about = neurons(4, 0.8, gain=gain)
    assert initial.SCALES["micheli"](about) == (pytest.approx(1.80022, rel=1e-4), 0)  # 1 / sqrt(1 - Phi(0.5))
    assert initial.SCALES["ding"](about) == (pytest.approx(0.707107 / gain, rel=1e-4), pytest.approx(0.05 / gain))
    assert initial.SCALES["fluctuation"](about) == (pytest.approx(0.474342 / gain, rel=1e-4), 0)  # 0.5 * 0.6 / (sqrt(0.1) * 2)
