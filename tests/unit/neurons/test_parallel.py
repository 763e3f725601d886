"""Neurons that are computed at all timesteps at once, and the width rule of linear potentials: against numpy, and by simulation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, NeuronConfig, TdBatchNorm2d
from lsgcli.neurons.norms import bn
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import close, normal
from tests.unit.neurons.test_models import SHAPE, run

STEPS = [1, 2, 3, 8, 32]


def made(neuron, T, **settings):
    """A layer in float64 whose parameters are not those of its start."""
    torch.manual_seed(T)
    layer = LIF(neuron=neuron, steps=T, channels=SHAPE[1], threshold=1.0, **settings).double()
    with torch.no_grad():
        for p in layer.of_neuron().values():
            p.add_(normal(*p.shape, seed=p.numel(), std=0.3))
    return layer


def fires(current, grad, W, v_th, alpha, surrogate):
    """u = W I, o = 1[u >= v_th[t]], by sums over pairs of timesteps; gradients of I, W and v_th, by hand."""
    T, h = len(current), oracle.SURROGATES[surrogate]
    o, du = np.zeros_like(current), np.zeros_like(current)
    d_current, d_W = np.zeros_like(current), np.zeros((T, T))
    for t in range(T):
        u = sum(W[t, i] * current[i] for i in range(T))
        o[t], du[t] = u >= v_th[t], grad[t] * h(u - v_th[t], alpha[t])
        for i in range(T):
            d_current[i] += W[t, i] * du[t]
            d_W[t, i] = (du[t] * current[i]).sum()
    return o, d_current, d_W, -du.reshape(T, -1).sum(1)


def sigma(W, s=1.0):
    """Standard deviation of each u[t] of uncorrelated currents."""
    return s * np.sqrt((W**2).sum(1))


@pytest.mark.parametrize("surrogate", ["rectangular", "atan"])
@pytest.mark.parametrize("method", ["fixed", "linear-sigma"])
@pytest.mark.parametrize("T", STEPS)
def test_psn(T, method, surrogate):
    layer = made("psn", T, method=method, surrogate=surrogate)
    out, found, current, grad = run(layer, T, seed=T)
    W, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    alpha = 2 * sigma(W) if method == "linear-sigma" else np.ones(T)
    o, d_current, d_W, d_threshold = fires(current, grad, W, -b, alpha, surrogate)
    assert np.array_equal(out, o)
    assert out.any()
    assert close(found["current"], d_current)
    assert close(found["weight"], d_W)
    assert close(found["bias"], -d_threshold)


@pytest.mark.parametrize("epoch", [0, 1, 9])
@pytest.mark.parametrize("T", STEPS)
def test_masked_psn(T, epoch):
    """lambda = min(8 e / (E - 1), 1) in epoch e of 33; M keeps t - 2 < i <= t."""
    layer = made("masked-psn", T, method="fixed")
    layer.neuron.begin_epoch(layer, epoch, 33)
    share = {0: 0.0, 1: 0.25, 9: 1.0}[epoch]
    scale = np.array([[1.0 if t - 2 < i <= t else 1 - share for i in range(T)] for t in range(T)])
    out, found, current, grad = run(layer, T, seed=T)
    o, d_current, d_W, d_threshold = fires(
        current, grad, scale * layer.weight.detach().numpy(), -layer.bias.detach().numpy(), np.ones(T), "rectangular"
    )
    assert np.array_equal(out, o)
    assert close(found["current"], d_current)
    assert close(found["weight"], d_W * scale)
    assert close(found["bias"], -d_threshold)


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("T", STEPS)
def test_sliding_psn(T, order):
    layer = made("sliding-psn", T, order=order, surrogate="atan")
    w, v_th = layer.weight.detach().numpy(), -layer.bias.item()
    W = np.array([[w[t - i] if 0 <= t - i < order else 0.0 for i in range(T)] for t in range(T)])
    out, found, current, grad = run(layer, T, seed=T)
    o, d_current, d_W, d_threshold = fires(current, grad, W, np.full(T, v_th), 2 * sigma(W), "atan")
    assert np.array_equal(out, o)
    assert close(found["current"], d_current)
    assert close(found["weight"], [np.trace(d_W, -lag) for lag in range(order)])
    assert close(found["bias"], -d_threshold.sum())


@pytest.mark.parametrize("decay_per", ["layer", "channel"])
@pytest.mark.parametrize("T", STEPS)
def test_psu_lif_is_lif_without_reset(T, decay_per):
    settings = {"method": "lsg", "decay_per": decay_per, "decay": 0.6, "threshold": 1.0, "channels": 3}
    layer, same = LIF(neuron="psu-lif", **settings).double(), LIF(reset="none", backend="reference", **settings).double()
    out, found, _, _ = run(layer, T, seed=T)
    expected, gradients, _, _ = run(same, T, seed=T)
    assert np.array_equal(out, expected)
    assert all(close(found[name], value) for name, value in gradients.items())


@pytest.mark.parametrize(
    ("neuron", "is_causal"), [("psn", False), ("masked-psn", True), ("sliding-psn", True), ("psu-lif", True)]
)
def test_causality(neuron, is_causal):
    """A spike depends on no later current: its row of the Jacobian of u, by a change of one current."""
    layer = made(neuron, 6)
    layer.neuron.begin_epoch(layer, 1, 2)
    current = normal(6, *SHAPE, seed=0)
    changed = current.clone()
    changed[3] += 1
    early = slice(0, 3)
    assert torch.equal(layer(current)[early], layer(changed)[early]) == is_causal


@pytest.mark.parametrize(
    ("settings", "norm", "expected", "rate"),
    [
        ({"neuron": "sliding-psn"}, bn, [1, math.sqrt(1.25), math.sqrt(1.25)], 0.186),
        ({"neuron": "sliding-psn", "order": 5}, bn, [1, math.sqrt(1.25), math.sqrt(1.3125)], 0.193),
        ({"neuron": "lif", "decay": 0.5, "input_gain": "1-beta"}, bn, [0.5, 0.559, 0.573], 0.037),
        ({"neuron": "psu-lif", "decay": 0.5}, bn, [1, math.sqrt(1.25), math.sqrt(1.3125)], 0.193),
        (
            {"neuron": "lif", "decay": 0.2},
            lambda *a: TdBatchNorm2d(1, threshold=1.0),
            [1, math.sqrt(1.04), math.sqrt(1.0416)],
            0.16,
        ),
    ],
)
def test_sigma_by_hand_and_by_simulation(settings, norm, expected, rate):
    """alpha[t] = 2 sigma[t]; sigma[t] is that of a million neurons without reset."""
    layer = LIF(method="linear-sigma", norm=norm(1, 1.0, 1.0, 5), steps=5, threshold=1.0, **settings)
    sigmas = layer._alpha(5) / 2
    assert sigmas[:3].tolist() == pytest.approx(expected, abs=1e-3)
    current = torch.randn(5, 1_000_000, generator=torch.Generator().manual_seed(0)) * (
        1 - layer.beta.item() if "input_gain" in settings else 1
    )
    u, beta, weights = (
        torch.zeros_like(current),
        0.0 if settings["neuron"] == "sliding-psn" else layer.beta.item(),
        layer.of_neuron()["weight"].tolist() if settings["neuron"] == "sliding-psn" else [1.0],
    )
    for t in range(len(current)):
        u[t] = sum(w * current[t - i] for i, w in enumerate(weights) if i <= t) + beta * u[t - 1]
    assert u.std(1).tolist() == pytest.approx(sigmas.tolist(), rel=5e-3)
    assert (u[2 if len(weights) > 2 or settings["neuron"] == "psu-lif" else 1] >= 1).float().mean().item() == pytest.approx(
        rate, abs=4e-3
    )


@pytest.mark.parametrize(
    ("neuron", "T", "std", "rate"), [("psn", 4, 0.577, 0.042), ("psn", 100, 0.577, 0.042), ("masked-psn", 10, 0.258, 5e-5)]
)
def test_sigma_of_random_weights_at_the_start(neuron, T, std, rate):
    """W uniform in +-1/sqrt(T): sigma^2 is 1/3, or k/(3 T) where a mask of order k is complete; most neurons of the latter are silent."""
    layers = [LIF(neuron=neuron, norm=bn(1, 1.0, 1.0, T), steps=T, threshold=1.0) for _ in range(400 if T < 50 else 20)]
    for layer in layers:
        layer.neuron.begin_epoch(layer, 1, 2)
    squares = torch.stack([(layer._alpha(T) / 2).square() for layer in layers])[:, 1:]
    assert squares.mean().sqrt().item() == pytest.approx(std, rel=0.03)
    assert torch.special.ndtr(-1 / torch.tensor(std)).item() == pytest.approx(rate, rel=0.1)


@pytest.mark.parametrize("settings", [{"neuron": "psn"}, {"neuron": "lif", "decay": 0.6, "input_gain": "1-beta"}])
def test_measured_covariance(settings):
    """After many steps of equal currents, alpha[t] is twice the standard deviation of u[t] without reset, whatever their correlation."""
    torch.manual_seed(0)
    layer = LIF(method="linear-sigma", input_correlation="measured", steps=5, **settings)
    current = torch.randn(5, 500, 3, 1, 1).cumsum(0) + 1
    for _ in range(200):
        layer(current)
        layer.end_step()
    W = (
        layer.weight.detach()
        if settings["neuron"] == "psn"
        else 0.4 * torch.tensor([[0.6 ** (t - i) if i <= t else 0.0 for i in range(5)] for t in range(5)])
    )
    u = torch.einsum("ts,s...->t...", W, current)
    assert (layer._alpha(5) / 2).tolist() == pytest.approx(u.flatten(1).std(1).tolist(), rel=1e-3)
    layer.eval()(current + torch.randn_like(current))
    assert not layer.products.any()


def test_the_measured_covariance_starts_as_the_identity():
    """With an input gain, that of scaled currents: sigma is 1/2, 1.118/2, ... at beta = 1/2 and v_th = 1."""
    settings = {"method": "linear-sigma", "decay": 0.5, "input_gain": "1-beta", "threshold": 1.0, "steps": 5}
    widths = [LIF(norm=bn(1, 1.0, 1.0, 5), input_correlation=name, **settings)._alpha(5) for name in ("identity", "measured")]
    assert widths[1].tolist() == pytest.approx(widths[0].tolist())
    assert widths[1][:3].tolist() == pytest.approx([1, 1.118, 1.146], abs=1e-3)


def test_a_decay_per_channel_of_one_channel():
    """As one decay for the layer, with an axis."""
    layers = [LIF(neuron="psu-lif", method="linear-sigma", decay_per=per, channels=1, steps=5) for per in ("layer", "channel")]
    current = normal(5, 2, 1, 4, 4, seed=0)
    assert torch.equal(layers[0](current), layers[1](current))
    assert layers[1]._alpha(5).shape == (5, 1)


def test_lsg_at_the_second_step():
    """The same width as lsg with tdBN; half of it with a gain of 1/2, and batch normalisation of threshold 1."""
    for decay in (0.1, 0.5, 0.9):
        ours = LIF(method="linear-sigma", decay=decay, norm=TdBatchNorm2d(1, threshold=0.5))
        assert ours.alpha.item() == pytest.approx(LIF(method="lsg", decay=decay).alpha.item())


def test_methods_that_do_not_suit():
    for settings, expected in (
        ({"neuron": "psn", "method": "lsg"}, "linear-sigma"),
        ({"neuron": "psn", "input_gain": "1-beta"}, "input_gain"),
    ):
        with pytest.raises(ConfigError) as error:
            LIF(channels=3, **settings)
        assert expected.replace("'", "") in str(error.value).replace("'", "")
    with pytest.raises(ConfigError, match=r"(?s)psn: found 3 timesteps, expected 4"):
        LIF(neuron="psn", steps=4)(torch.randn(3, 2))


@pytest.mark.parametrize("neuron", ["psn", "masked-psn", "sliding-psn", "psu-lif"])
def test_in_a_network(neuron):
    """A network computes the same at any memory format and under bf16; static images and recordings agree."""
    torch.manual_seed(0)
    config = NeuronConfig(neuron=neuron, method="fixed")
    net = models.build("vggsnn", config, T=3, num_classes=3, in_channels=2, input_size=16, width_multiplier=1 / 16).eval()
    x = torch.rand(2, 2, 16, 16)
    assert torch.equal(net(x), net(x.expand(3, *x.shape).contiguous()))
    exact = net.double()(x.double())
    assert torch.allclose(net.float()(x).double(), exact, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # rounded weights, potentials of float32
        assert F.cosine_similarity(net(x).double().flatten(), exact.flatten(), 0) > 0.7
