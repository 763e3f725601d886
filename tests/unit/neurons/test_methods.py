"""Width rules: each against numbers worked out by hand, and what a layer gives them: gamma, what it measured, what it stores."""

import math

import numpy as np
import pytest
import torch

from lsgcli import models, registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.widths import LayerState
from tests.unit.models.helpers import SMALL
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import AVAILABLE, BACKENDS, SURROGATES, close, normal


def state(T=3, threshold=0.5, beta=0.75, width=1.7, gamma=1.5, sigma=0.4, mean=0.0, surrogate="rectangular"):
    """A layer's state in float64; beta a number, or a list of one a channel."""
    beta, width, gamma, sigma, mean = (torch.tensor(x, dtype=torch.float64) for x in (beta, width, gamma, sigma, mean))
    own = {"sigma": sigma, "ratio": 0 * sigma + 3, "width": width, "u_mean": mean, "u_std": sigma}
    return LayerState(T, threshold, beta, width, gamma, own, registry.get("surrogate", surrogate))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fixed", 1.7),
        ("trainable-decay", 1.7),
        ("matched-width", 1.7),
        ("lsg", 1.25),  # 2 * 0.5 * sqrt(1 + 0.5625)
        ("measured-sigma", 0.8),
        ("adaptive", 1.2),  # with the ratio 3
        ("isometric", 0.9869),  # where P(abs(u - 0.5) < alpha/2) = alpha^2 / 2 = 0.4869 for u ~ N(0, 0.4^2)
        ("linear-sigma", [2.0, 2.5, math.sqrt(4 * (1 + 0.5625 + 0.31640625))]),  # s = 1
        ("mpd-agl", [1.5, 1.875, 1.875]),  # 2 * 1.5 * 0.5, and 1.25 times that
    ],
)
def test_by_hand(method, expected):
    """v_th 0.5, beta 0.75, width 1.7, gamma 1.5, sigma 0.4."""
    assert registry.get("method", method).width.alpha(state()).tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("decay_per", ["layer", "channel"])
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_width_per_step_in_a_layer(backend, surrogate, decay_per):
    """mpd-agl behind a tdBN, against numpy: spikes, and the gradients of z, gamma, mu and b."""
    T, C, threshold = 4, 3, 0.5
    norm = TdBatchNorm2d(C).double()
    lif = LIF(
        decay=0.6,
        threshold=threshold,
        method="mpd-agl",
        surrogate=surrogate,
        backend=backend,
        decay_per=decay_per,
        channels=C,
        norm=norm,
    ).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.8, 1.1, 2.0], dtype=torch.float64))
        norm.bias.copy_(torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64))
        if decay_per == "channel":
            lif.b.copy_(torch.tensor([-1.0, 0.0, 1.5]))
    z, grad = normal(T, 2, C, 2, 2, seed=11, mean=1.0, std=2.0), normal(T, 2, C, 2, 2, seed=12)
    beta, slope = oracle.decay(lif.b.detach().numpy().reshape(-1))
    later = 2 * 1.3 * threshold * np.sqrt(1 + beta**2)  # gamma is 1.3 on average
    alpha = np.stack([np.full_like(later, 1.3), later, later, later]).reshape(T, 1, -1, 1, 1)
    gamma, mu = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    current = oracle.tdbn(z.numpy(), gamma, mu, threshold)
    expected = oracle.lif(current, grad.numpy(), beta.reshape(-1, 1, 1), alpha, threshold, surrogate)
    assert oracle.margin(expected.u, threshold, alpha, surrogate) > 1e-9
    spikes = lif.normalise_and_fire(norm.parameters_for(z), z.clone())
    spikes.backward(grad)
    assert np.array_equal(spikes.detach().numpy(), expected.o)
    d_current, over = expected.d_current, (0, 1, 3, 4)
    assert close(norm.bias.grad, d_current.sum(over))
    assert close(norm.weight.grad, (d_current * (current - mu.reshape(-1, 1, 1))).sum(over) / gamma)  # none through alpha
    d_beta = expected.d_beta.sum((0, 2, 3)) if decay_per == "channel" else expected.d_beta.sum()
    assert close(lif.b.grad, (d_beta * slope).reshape(lif.b.shape))


def test_gamma_is_that_of_the_norm_before_the_neurons():
    """Each convolution's own tdBN, the branch's that ends in the neurons where two are summed, 1 behind a linear layer; as it is now."""
    net = models.build(**SMALL["resnet19-add"], method="mpd-agl")
    with torch.no_grad():
        for index, layer in enumerate(net.spiking_layers()):
            if layer.norm is not None:
                layer.norm.weight.fill_(1 + index)
    for index, layer in enumerate(net.spiking_layers()):
        gamma = 1 if layer.norm is None else 1 + index
        assert layer.lif.alpha.item() == pytest.approx(gamma * math.sqrt(1.04)), layer.name


def moments(u):
    return torch.tensor([u.size, u.sum(), np.square(u).sum()], dtype=torch.float64)


@pytest.mark.parametrize("pool", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", AVAILABLE)
def test_what_is_measured(backend, dtype, pool):
    """Number, sum and sum of squares of u, before the reset, over steps, samples and neurons: alone, and behind tdBN and pool."""
    lif = LIF(decay=0.6, method="measured-sigma", backend=backend).to(torch.promote_types(dtype, torch.float32))
    z = normal(3, 2, 5, 4, 6, seed=1, mean=0.2, dtype=dtype)
    current = z.double().numpy()
    if pool:
        vectors = (torch.full((5,), x, dtype=torch.promote_types(dtype, torch.float32)) for x in (1.3, 0.2, 0.0, 1.0))
        lif.normalise_and_fire(NormParameters(*vectors, True, 0.1, 1e-5, 0.5), z.clone(), pool=pool)
        current = oracle.tdbn(current, np.full(5, 1.3), np.full(5, 0.2), 0.5)
    else:
        lif(z.clone())
    expected = moments(oracle.lif(current, 0 * current, lif.beta.item(), 1.0, 0.5, "rectangular").u)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]  # some round the current itself
    assert lif.measured[0] == expected[0]
    assert ((lif.measured - expected).abs() <= tolerance * expected[2]).all()


def test_sigma_moves_once_per_step():
    """After a step a tenth of the way to what all parts of the batch measured together; never in between."""
    lif = LIF(decay=0.6, method="measured-sigma").double()
    start, beta = 0.5 * math.sqrt(1.36), lif.beta.item()
    parts = [normal(3, 2, 4, seed=seed, std=1 + seed) for seed in (1, 2)]
    potentials = []
    for part in parts:
        lif(part)
        potentials.append(oracle.lif(part.numpy(), 0 * part.numpy(), beta, 1.0, 0.5, "rectangular").u)
        assert lif.sigma.item() == pytest.approx(start, rel=1e-6)
        assert lif.alpha.item() == pytest.approx(2 * start, rel=1e-6)
    lif.end_step()
    expected = 0.9 * start + 0.1 * np.concatenate(potentials, axis=1).std()
    assert lif.sigma.item() == pytest.approx(expected, rel=1e-6)
    lif.end_step()  # nothing was measured since
    assert lif.sigma.item() == pytest.approx(expected, rel=1e-6)
    lif(parts[0])
    lif.end_step()
    assert lif.sigma.item() == pytest.approx(0.9 * expected + 0.1 * potentials[0].std(), rel=1e-6)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.5), (-0.2, 0.6), (0.3, 0.3), (0.0, 0.1), (0.0, 2.0), (-3.0, 0.3)])
def test_isometric(surrogate, mean, sigma):
    """The predicted gain is 1, against numpy; widths follow the scale of u; where nothing lies near the threshold, sqrt(8) v_th."""
    alpha = registry.get("method", "isometric").width.alpha(state(mean=mean, sigma=sigma, surrogate=surrogate)).item()
    expected = oracle.isometric(mean, sigma, 0.5, surrogate)
    assert (expected is None) == (mean == -3.0 or (sigma == 0.1 and surrogate != "rectangular"))
    assert alpha == pytest.approx(math.sqrt(2) if expected is None else expected, rel=0.005)
    twice = registry.get("method", "isometric").width.alpha(
        state(threshold=1.0, mean=2 * mean, sigma=2 * sigma, surrogate=surrogate)
    )
    assert twice.item() == pytest.approx(2 * alpha)


def test_isometric_moves_to_what_it_measures():
    """From N(0, (1 + beta^2) v_th^2), a tenth of the way to mean and deviation of each step; then the predicted gain is the measured one."""
    lif = LIF(decay=0.6, method="isometric").double()
    current = normal(3, 20_000, seed=1, mean=0.1, std=0.5)
    u = oracle.lif(current.numpy(), 0 * current.numpy(), lif.beta.item(), 1.0, 0.5, "rectangular").u
    assert (lif.u_mean.item(), lif.u_std.item()) == pytest.approx((0.0, 0.5 * math.sqrt(1.36)))
    for step in range(1, 40):
        lif(current)
        lif.end_step()
        assert lif.u_mean.item() == pytest.approx((1 - 0.9**step) * u.mean())
    assert lif.u_std.item() == pytest.approx(u.std(), rel=0.01)
    coverage = (np.abs(u - 0.5) < lif.alpha.item() / 2).mean()
    assert 8 * 0.5**2 * coverage / lif.alpha.item() ** 2 == pytest.approx(1, abs=0.1)  # the reset makes u skewed


@pytest.mark.parametrize("how", ["evaluation", "recomputing", "skip"])
def test_sigma_stays(how):
    """In evaluation, where a batch is computed once more to go backward, and where a step was not taken."""
    lif = LIF(method="measured-sigma")
    lif.recomputing = how == "recomputing"
    lif.train(how != "evaluation")(normal(3, 2, 4, seed=1, std=5.0, dtype=torch.float32))
    before = lif.sigma.clone()
    lif.end_step(skip=torch.tensor(how == "skip"))
    assert torch.equal(lif.sigma, before)
    lif.recomputing = False
    lif.train()(torch.full((3, 2, 4), 1.0))
    lif.end_step(skip=torch.tensor(False))  # of what was dropped nothing is left
    assert lif.sigma.item() == pytest.approx(0.9 * before.item(), rel=1e-5)


def test_decay_per_channel_says_what_it_needs():
    with pytest.raises(ConfigError, match="found no channels"):
        LIF(decay_per="channel")
    lif = LIF(decay_per="channel", channels=3)
    for shape in [(4, 2), (4, 2, 5), (4, 2, 5, 3)]:
        with pytest.raises(ConfigError, match=r"expected \(T, B, 3, ...\)"):
            lif(torch.zeros(shape))
    assert "beta=0.200" in repr(lif)
