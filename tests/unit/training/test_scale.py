"""Initial weights of networks without normalisation: against simulated neurons, and in networks."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from lsgcli.analysis import gradflow
from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons import initial
from lsgcli.neurons.surrogates import rectangular
from lsgcli.training.initialise import new_model
from lsgcli.training.scale import draw_weights
from tests.exports import slow_if

SIZE, T = 16, 4


def begun(init, arch="resnet19", seed=0, static=False, **settings):
    """A network with its initial weights, and an input of white noise that they have not seen."""
    settings = {"residual": "none", "depth": 9, "width_multiplier": 0.125, "method": "adaptive", **settings}
    config = RunConfig(arch=arch, norm="none", init=init, T=T, size=SIZE, seed=seed, **settings)
    net = new_model(config, 10, 2)
    shape = (32, 2, SIZE, SIZE) if static else (T, 32, 2, SIZE, SIZE)
    seen, new = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    draw_weights(net, config, seen)
    return net, new


def layers_of(net, x):
    batch = x, torch.arange(len(x) if x.dim() == 4 else x.shape[1]) % 10
    return gradflow.inspect(net, [batch])["layers"]


def shares(net, x):
    """Entries of the input of each layer's weights over those of its output, behind its pool."""
    found = {}
    handles = [
        layer.synapse.register_forward_hook(
            lambda module, x, out, layer=layer: found.update({layer.name: x[0].numel() / out.numel()})
        )
        for layer in net.spiking_layers()
    ]
    net(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("vggsnn", {}),
        slow_if(True, "resnet19", {}),
        slow_if(True, "resnet19", {"static": True, "reset": "soft", "decay": 0.7, "threshold": 1.0, "backend": "reference"}),
        ("mlp", {}),
    ],
    ids=str,
)
def test_measured_layers_fire_at_the_rate_and_preserve_the_gradient(arch, options):
    """Within 20 %, on inputs that they were not measured on."""
    net, x = begun("measured", arch, **options)
    sizes = shares(net, x)
    for layer, spiking in zip(layers_of(net, x), net.spiking_layers(), strict=True):
        assert layer["firing_rate"] == pytest.approx(0.1, rel=0.2)
        if layer["gain"] is not None:
            pool = getattr(spiking.block, "pool", None)
            gain = layer["gain"] * sizes[spiking.name] / (1 if pool is None else pool.kernel_size**2)
            assert gain == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("static", [slow_if(True, False), True])
def test_spikeinit_fires_at_the_rate(static):
    """A wide network, whose input makes the currents that the equations expect: white noise, or an image."""
    net, x = begun("spikeinit", static=static, width_multiplier=0.5, init_rate=0.2)
    assert layers_of(net, x)[0]["firing_rate"] == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(
    ("arch", "init"),
    [
        slow_if((arch, init) not in (("resnet19", "measured"), ("ms-resnet18", "ding")), arch, init)
        for arch in ("ms-resnet18", "resnet19")
        for init in initial.SCALES
    ],
)
def test_residual_branches_end_in_zero(arch, init):
    net, x = begun(init, arch, residual="add")
    ends = [block.second.conv.weight for _, block in net.blocks()]
    assert not any(weight.any() for weight in [*ends, net.classifier.weight])
    assert net(x).isfinite().all()


def test_spikes_that_are_added_are_rare():
    net, x = begun("measured", residual="sew")
    rates = {layer["name"]: layer["firing_rate"] for layer in layers_of(net, x)}
    assert all(rate < 0.02 for name, rate in rates.items() if name.endswith("lif2"))
    assert rates["block2.1.lif1"] == pytest.approx(0.1, rel=0.2)


def test_the_same_seed_has_the_same_bits():
    states = [begun("measured", "mlp", seed=seed)[0].state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(one, other) for one, other in zip(states[0].values(), states[1].values(), strict=True))
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])


def test_neurons_without_a_decay_are_measured():
    settings = {"neuron": "psn", "method": "none"}
    with pytest.raises(ConfigError, match="--init spikeinit: found neurons without a decay"):
        begun("spikeinit", **settings)
    net, x = begun("measured", **settings)
    assert layers_of(net, x)[3]["firing_rate"] == pytest.approx(0.1, rel=0.2)


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
