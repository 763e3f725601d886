"""Random numbers of layers depend on the sample alone, and dropout removes the same inputs at all timesteps."""

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.data import random
from lsgcli.models.base import Dropout
from lsgcli.neurons import LIF
from lsgcli.neurons.layer import drawing
from tests.unit.models.helpers import backward, image, small
from tests.unit.neurons import oracle, oracle_variants
from tests.unit.neurons.helpers import close, normal

MASK = (1 << 64) - 1


def split_mix(z):
    """The finaliser, on Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_uniforms_by_own_arithmetic():
    samples = torch.from_numpy(random.numbers(3, 5, random.ids(["a", "b", "c"])))
    net = torch.nn.ModuleList([LIF(method="fixed"), LIF(method="asgl"), LIF(method="asgl")])  # the first draws nothing
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


@pytest.mark.parametrize("neuron", ["lif", "clif"])
def test_dropout_of_neurons(neuron):
    """Spikes and gradients of numpy times a mask, which its own arithmetic draws as step T: the method has those before."""
    T, shape = 4, (3, 2, 4, 4)
    layer = LIF(neuron=neuron, method="trainable-decay", decay=0.5, channels=2, dropout=0.4).double()
    samples = torch.from_numpy(random.numbers(3, 5, random.ids(["a", "b", "c"])))
    states = [split_mix((sample + 0x9E3779B97F4A7C15) & MASK) for sample in samples.tolist()]
    bits = [[split_mix((state + (T * 32 + i) * 0x9E3779B97F4A7C15) & MASK) for i in range(1, 33)] for state in states]
    mask = (np.array(bits, object) >> 40 >= 0.4 * 2**24).astype(float).reshape(shape) / 0.6
    assert 0.4 < (mask > 0).mean() < 0.8
    current, grad = normal(T, *shape, seed=1, mean=0.4), normal(T, *shape, seed=2)
    leaf = current.clone().requires_grad_()
    beta, slope = oracle.decay(layer.b.item())
    numbers = current.numpy(), grad.numpy() * mask, beta, 1.0, 0.5, "rectangular"
    if neuron == "clif":
        expected, gradients = oracle_variants.clif(*numbers)
        of_current, of_beta = gradients["current"], gradients["beta"]
    else:
        found = oracle.lif(*numbers)
        expected, of_current, of_beta = found.o, found.d_current, found.d_beta
    with drawing(layer, samples):
        out = layer(leaf)
        out.backward(grad)
        pooled = layer.normalise_and_fire(None, current.clone(), pool=2)
    assert close(out, expected * mask)
    assert close(leaf.grad, of_current)
    assert close(layer.b.grad, of_beta.sum() * slope)
    assert close(pooled, (expected * mask).reshape(T, 3, 2, 2, 2, 2, 2).mean((4, 6)))
    assert close(layer.eval()(current), expected)


@pytest.mark.parametrize("at", ["classifier", "neurons"])
def test_dropout_depends_on_the_sample_alone(at):
    torch.manual_seed(0)
    size = {"input_size": 4, "input_height": 1, "width_multiplier": 0.1}
    net = models.build("mlp", T=2, dropout=0.5, dropout_at=at, method="fixed", **size).double()
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


def test_gradient_of_a_convolution_of_dropped_spikes():
    """That of the same convolution by torch alone, in float32, in which the kernels could save bits."""
    net = small("vggsnn", dropout=0.3, dropout_at="neurons", dtype=torch.float32)
    conv, seen = net.features[1].current.conv, {}
    conv.register_forward_hook(lambda module, args, output: seen.update(x=args[0].detach().clone()))
    conv.register_full_backward_hook(lambda module, before, after: seen.update(grad=after[0].clone()))
    backward(net, image(net, batch=5))
    assert seen["x"].unique().tolist() == pytest.approx([0, 1 / 0.7])
    expected = torch.nn.grad.conv2d_weight(seen["x"], conv.weight.shape, seen["grad"], padding=1)
    torch.testing.assert_close(conv.weight.grad, expected, rtol=1e-4, atol=1e-5)
