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


WIDE = {"width_multiplier": 0.25}
FULL = {"width_multiplier": 1.0}
DEEP = {"depth": 19, **WIDE}
ADD = {"residual": "add", **DEEP}
MAX = {"width_multiplier": 0.5}
NORMAL = 0.3085  # 1 - Phi(0.5)
STARTS = [
    ("spikeinit", "vggsnn", WIDE),
    ("spikeinit", "vggsnn", {**WIDE, "static": True}),
    ("spikeinit", "vggsnn", {**WIDE, "decay": 0.9, "input_gain": "1-beta"}),
    ("spikeinit", "vggsnn", {**WIDE, "init_rate": 0.2, "reset": "soft", "backend": "reference"}),
    ("spikeinit", "resnet19", DEEP),
    ("spikeinit", "resnet19", ADD),
    ("spikeinit", "max-resnet18", MAX),
    ("spikeinit", "mlp", FULL),
    ("measured", "resnet19", ADD),
    ("fluctuation", "vggsnn", WIDE),
    ("fluctuation", "resnet19", DEEP),
    ("fluctuation", "max-resnet18", MAX),
    ("fluctuation", "mlp", FULL),
    ("micheli", "vggsnn", WIDE),
    ("micheli", "resnet19", DEEP),
    ("micheli", "mlp", FULL),
]
QUICK_STARTS = [STARTS[0], STARTS[7], STARTS[12], STARTS[15]]


@pytest.mark.parametrize(("init", "arch", "options"), [slow_if(start not in QUICK_STARTS, *start) for start in STARTS], ids=str)
def test_each_layer_starts_at_the_wanted_rate(init, arch, options):
    """Behind pools, in images that are mostly padding, and of spikes that are correlated in time and space."""
    net, x = begun(init, arch, **options)
    rate = NORMAL if init == "micheli" else options.get("init_rate", 0.1)
    # The mean over 16 random neurons of a narrow layer differs from that of many.
    within = {"micheli": 2.0, "fluctuation": 1.4}.get(init, 1.3)
    for layer in layers_of(net, x):
        assert rate / within < layer["firing_rate"] < rate * within, layer["name"]


@pytest.mark.parametrize("init", [slow_if(True, "measured"), "spikeinit"])
def test_neurons_of_products_scale_no_weights(init):
    """Those of an attention, whose synapse is also that of the queries."""
    net, x = begun(init, "qkformer", **WIDE)
    for layer in layers_of(net, x):
        if not layer["name"].endswith(".attention"):
            assert 0.1 / 1.5 < layer["firing_rate"] < 0.1 * 1.7, layer["name"]


@pytest.mark.parametrize(
    ("arch", "options"),
    [slow_if(True, "vggsnn", WIDE), slow_if(True, "resnet19", DEEP), slow_if(True, "ms-resnet18", WIDE), ("mlp", FULL)],
    ids=str,
)
def test_ding_preserves_the_rate(arch, options):
    """Its equation has no rate of its own: that of the first layer follows from the input."""
    net, x = begun("ding", arch, **options)
    rates = [layer["firing_rate"] for layer in layers_of(net, x)]
    assert max(rates[1:]) < 2 * min(rates[1:])


def test_ding_has_the_scale_of_its_equation_for_spikes():
    """Without a pool, and of linear layers, which have no padding."""
    net, _ = begun("ding", "mlp", **FULL)
    first, second = (layer.synapse.weight for layer in net.spiking_layers())
    assert first.std().item() * math.sqrt(first[0].numel()) == pytest.approx(1, rel=0.02)
    assert second.std().item() * math.sqrt(second[0].numel()) == pytest.approx(math.sqrt(2) * 0.5, rel=0.05)


def test_sparse_frames():
    """Of a recording, of whose pixels few change, and these for a few timesteps."""
    config = RunConfig(arch="mlp", norm="none", init="spikeinit", T=T, size=SIZE, method="fixed")
    net = new_model(config, 10, 2)
    changes = (torch.rand(T, 64, 2, SIZE, SIZE) < 0.3) * (torch.rand(T, 64, 1, 1, 1) < 0.4) * 3.0
    draw_weights(net, config, changes[:, ::2])
    for layer in layers_of(net, changes[:, 1::2]):
        assert layer["firing_rate"] == pytest.approx(0.1, rel=0.2)


def by_hand(net, x, decay, threshold):
    """Firing rate of each layer of a vggsnn, in numpy."""
    rates = []
    for block in net.features:
        weight = block.current.conv.weight.detach().double().numpy()
        padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(3, 4))
        current = np.einsum("tbchwij,ocij->tbohw", windows, weight, optimize=True)
        u, o = np.zeros_like(current[0]), np.zeros_like(current[0])
        spikes = []
        for step in current:
            u = decay * u * (1 - o) + step
            o = (u >= threshold).astype(float)
            spikes.append(o)
        x = np.stack(spikes)
        rates.append(x.mean())
        if block.pool is not None:
            T, B, C, H, W = x.shape
            x = x.reshape(T, B, C, H // 2, 2, W // 2, 2).mean((4, 6))
    return rates


@pytest.mark.parametrize("init", ["spikeinit", "fluctuation"])
def test_rates_in_numpy(init):
    """Of spikes as input, with decay 0.5, which started at .096 .099 .043 .043 .015 .010 .000 .000 before pools were counted."""
    config = RunConfig(arch="vggsnn", norm="none", init=init, T=6, size=SIZE, decay=0.5, width_multiplier=0.125, method="fixed")
    net = new_model(config, 10, 2)
    spikes = (torch.rand(6, 16, 2, SIZE, SIZE) < 0.1).float()
    draw_weights(net, config, spikes)
    rates = by_hand(net, spikes.double().numpy(), 0.5, 0.5)
    assert all(0.05 < rate < 0.2 for rate in rates), rates


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
    std = initial.population(about, s * math.sqrt(RATE)).u_std()
    assert u.std() == pytest.approx(std, rel=0.01)
    ratio = initial.width_ratio(about, s)
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
    currents = torch.randn(200, 1000).double().expand(6, 200, 1000)
    factor = initial.balancing(neurons(6, 0.7), currents)
    values = noise(factor, 200_000)(0)
    assert simulated(6, 0.7, lambda t: values)[1].mean() == pytest.approx(RATE, rel=0.03)


@pytest.mark.parametrize("beta", [0.2, 0.9])
@pytest.mark.parametrize("k", [1, 4, 16])
def test_averages_of_spikes(k, beta):
    """Of k independent spikes of rate p, whose mean square is p^2 + p (1 - p) / k, of which p^2 lasts."""
    steps, fan_in = 8, 500
    rng = np.random.default_rng(k)
    averages = (rng.random((steps, 20, fan_in, k)) < RATE).mean(-1)
    weight = rng.standard_normal((4000, fan_in)) / math.sqrt(fan_in)
    current = averages @ weight.T
    assert (current**2).mean() == pytest.approx(RATE**2 + RATE * (1 - RATE) / k, rel=0.05)
    about = neurons(steps, beta)
    factor = initial.balancing(about, torch.from_numpy(current))
    fresh = rng.standard_normal((4000, fan_in)) / math.sqrt(fan_in)
    others = (rng.random((steps, 20, fan_in, k)) < RATE).mean(-1) @ fresh.T
    flat = factor * others.reshape(steps, -1)
    _, o = simulated(steps, beta, lambda t: flat[t], n=flat.shape[1])
    assert o.mean() == pytest.approx(RATE, rel=0.1)


@pytest.mark.parametrize("beta", [0.2, 0.9])
def test_fluctuation_around_the_mean(beta):
    """Of currents with a mean, u without resets reaches the threshold at the rate, after some time."""
    about = neurons(50, beta, "none")
    currents = 0.4 + torch.randn(50, 20, 500, generator=torch.Generator().manual_seed(0))
    factor = initial.fluctuating(about, currents)
    rng = np.random.default_rng(0)
    u, _ = simulated(50, beta, lambda t: factor * (0.4 + rng.standard_normal(200_000)), "none")
    assert (u[-1] >= V_TH).mean() == pytest.approx(RATE, rel=0.03)


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
    std = initial.population(about, s * math.sqrt(RATE)).u_std()
    assert std == pytest.approx(r, rel=0.02)
    ratio = initial.width_ratio(about, s)
    half = ratio * std / 2
    inside = norm.cdf((V_TH + half - m) / r) - norm.cdf((V_TH - half - m) / r)
    assert s**2 * inside / (ratio * std) ** 2 == pytest.approx(1 - (1 - RATE) * beta**2, rel=0.05)


@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_scales_by_hand(gain):
    """v_th 0.5, beta 0.8, p 0.1."""
    about = neurons(4, 0.8, gain=gain)
    assert initial.SCALES["micheli"](about) == (pytest.approx(1.80022, rel=1e-4), 0)  # 1 / sqrt(1 - Phi(0.5))
    assert initial.SCALES["ding"](about) == (pytest.approx(0.707107 / gain, rel=1e-4), pytest.approx(0.05 / gain))
    # 0.5 * 0.6 / (sqrt(p) * xi), where xi = 1.281552 for p = 0.1, and 2 for p = 0.0227501
    assert initial.SCALES["fluctuation"](about) == (pytest.approx(0.740262 / gain, rel=1e-4), 0)
    rare = about._replace(rate=0.0227501)
    assert initial.SCALES["fluctuation"](rare) == (pytest.approx(0.994485 / gain, rel=1e-4), 0)
