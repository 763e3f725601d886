"""Random numbers of layers depend on the sample alone, and dropout removes the same inputs at all timesteps."""

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.data import random
from lsgcli.models.base import Dropout
from lsgcli.neurons import LIF
from lsgcli.neurons.draws import drawing

MASK = (1 << 64) - 1


def split_mix(z):
    """The finaliser, on Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_uniforms_by_own_arithmetic():
    samples = torch.from_numpy(random.numbers(3, 5, random.ids(["a", "b", "c"])))
    net = torch.nn.ModuleList([LIF(method="none"), LIF(method="asgl"), LIF(method="asgl")])  # the first draws nothing
    x = torch.zeros(3, 2, 2, dtype=torch.float64)
    with drawing(net, samples):
        found = [layer.uniforms(x, t) for layer in net[1:] for t in (0, 4)]
    golden, n = 0x9E3779B97F4A7C15, 4
    for (layer, t), values in zip([(1, 0), (1, 4), (2, 0), (2, 4)], found, strict=True):
        for sample, own in zip(samples.tolist(), values.flatten(1).tolist(), strict=True):
            state = split_mix((sample + layer * golden) & MASK)
            bits = [split_mix((state + (t * n + i) * golden) & MASK) for i in range(1, n + 1)]
            assert own == [(each >> 40) / 2**24 for each in bits]
    assert all(layer.samples is None for layer in net)


def test_uniforms_are_uniform():
    layer = LIF(method="asgl")
    with drawing(layer, torch.from_numpy(random.numbers(0, 0, random.ids([str(i) for i in range(50)])))):
        u = torch.stack([layer.uniforms(torch.zeros(50, 20, 20), t) for t in range(4)]).numpy()
    assert 0 <= u.min() < u.max() < 1
    assert np.abs(np.histogram(u, 20, (0, 1))[0] / 4000 - 1).max() < 0.08
    for axis in (0, 1, 2):  # neighbours in time, samples and positions
        a, b = (np.moveaxis(u, axis, 0)[part].ravel() for part in (slice(1, None), slice(-1)))
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


@pytest.mark.parametrize("seeded", [True, False])
def test_dropout(seeded):
    layer = Dropout(0.4)
    x = torch.ones(5, 200, 64, dtype=torch.float64).cumsum(0)
    samples = torch.from_numpy(random.numbers(0, 1, random.ids([str(i) for i in range(200)]))) if seeded else None
    with drawing(layer, samples):
        dropped = layer(x)
        assert torch.equal(layer.eval()(x), x)
    kept = dropped[0] != 0
    assert 0.58 < kept.double().mean() < 0.62
    assert kept.any(0).all()
    torch.testing.assert_close(dropped, x * kept / 0.6)  # the same at all timesteps
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dropout_in_types_of_fewer_bits(dtype):
    """The numbers of fp16 end at 65504, and those of bf16 round up to 1."""
    dropout = Dropout(0.5).train()
    with drawing(dropout, torch.arange(64)):
        zeros = (dropout(torch.ones(2, 64, 100, dtype=dtype)) == 0).double().mean().item()
    assert abs(zeros - 0.5) < 0.03  # five standard deviations of 6,400 draws


def test_dropout_depends_on_the_sample_alone():
    torch.manual_seed(0)
    net = models.build("mlp", T=2, input_size=4, input_height=1, dropout=0.5, width_multiplier=0.1, method="none").double()
    x = torch.rand(2, 6, 1, 1, 4, dtype=torch.float64) * 10  # most neurons fire
    for module in net.modules():
        if hasattr(module, "running_mean"):  # statistics of the batch would depend on the other samples
            module.eval()
    samples = torch.from_numpy(random.numbers(0, 0, random.ids([str(i) for i in range(6)])))
    outcomes = []
    for chosen in ([0, 1, 2, 3, 4, 5], [4, 1], [1]):
        with drawing(net, samples[chosen]):
            outcomes.append(net(x[:, chosen]))
    whole, two, one = outcomes
    torch.testing.assert_close(two, whole[:, [4, 1]])
    torch.testing.assert_close(one, whole[:, [1]])
    with drawing(net, samples.flip(0)):
        assert not torch.allclose(net(x), whole)
    assert torch.equal(net.eval()(x), net(x))
