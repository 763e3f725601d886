"""Weights on a grid: the grid, training with few bits, and storage."""

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.models.fold import fold
from lsgcli.models.quantise import integers, on_grid, round_weights
from tests.unit.models.helpers import seasoned, sequence


@pytest.mark.parametrize("bits", [8, 4])
def test_the_grid(bits):
    weight = torch.randn(50, 7, 3, 3) * torch.logspace(-6, 3, 50).view(-1, 1, 1, 1)
    weight[3] = 0
    q, scale = integers(weight, bits)
    most = 2 ** (bits - 1) - 1
    assert (q.dtype, int(q.abs().max())) == (torch.int8, most)
    assert (scale > 0).all()
    assert not q[3].any()
    error = (weight - q * scale.view(-1, 1, 1, 1)).abs() / scale.view(-1, 1, 1, 1)
    assert error.max() <= 0.5 + 1e-3
    # Exact products, so that float convolutions of any framework multiply by the same weights, and the grid is found again.
    assert np.array_equal(on_grid(weight, bits).double(), q.double() * scale.double().view(-1, 1, 1, 1))
    again, same = integers(on_grid(weight, bits), bits)
    assert torch.equal(q, again)
    assert torch.equal(scale[q.flatten(1).any(1)], same[q.flatten(1).any(1)])


def test_training_multiplies_by_rounded_weights_and_passes_gradients_through():
    rounded = models.build("mlp", width_multiplier=1 / 32, input_size=9, weight_bits=4).train()
    plain = models.build("mlp", width_multiplier=1 / 32, input_size=9).train()
    plain.load_state_dict(rounded.state_dict())
    round_weights(plain, 4)
    x = sequence(plain, 8)
    for net in (rounded, plain):
        net(x).square().sum().backward()
    assert torch.equal(rounded(x), plain(x))
    for ours, theirs in zip(rounded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)  # oneDNN's sums for SSE4.1 depend on where in memory the weights are
    assert not torch.equal(rounded.classifier.weight, plain.classifier.weight)  # the trained weight remains a float


@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add"])
def test_folding_a_network_of_few_bits(which):
    net = seasoned(which, weight_bits=4)  # in double precision
    folded = fold(net)
    torch.testing.assert_close(folded(sequence(net)), net(sequence(net)))
    for layer in folded.spiking_layers():
        weight = layer.synapse.weight.detach().flatten(1)
        steps = weight / weight.abs().amax(1, keepdim=True) * 7
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
