"""The network that reads columns of images: its function by own code, and what it refuses."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping
from tests.unit.models.helpers import firing_rates, image, lif, seasoned, small
from tests.unit.neurons.helpers import close, normal

pytestmark = pytest.mark.usefixtures("plugins")


def own(net, x):
    """The network once more, with one-dimensional layers, step by step."""
    steps = torch.stack([x[..., column] for column in range(x.shape[-1])])  # (T, B, C, H)
    for index, block in enumerate(net.features):
        conv, norm = block.current.conv, block.current.norm
        z = torch.stack([F.conv1d(step, conv.weight[:, :, 0], padding=1) for step in steps])
        z = (z - z.mean((0, 1, 3), keepdim=True)) / (z.var((0, 1, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        steps = lif(block.lif, 0.5 * norm.weight[:, None] * z + norm.bias[:, None], 0.5)
        if index in (2, 5):
            steps = torch.stack([F.avg_pool1d(step, 2) for step in steps])
    spikes = lif(net.hidden_lif, F.linear(steps.flatten(2), net.hidden.weight, net.hidden.bias), 0.5)
    return F.linear(spikes, net.classifier.weight, net.classifier.bias)


def test_against_own_code():
    """Logits, and gradients of the image and of each parameter, of images higher than wide."""
    net = small("sequential-cnn", input_height=12)
    results = []
    for function in (net, lambda x: own(net, x)):
        x = image(net, batch=3).requires_grad_()
        logits = function(x)
        (logits * normal(*logits.shape, seed=2)).sum().backward()
        results.append((logits.detach(), x.grad, *(p.grad.clone() for p in net.parameters())))
        net.zero_grad()
    assert all(0.01 < rate < 0.99 for rate in firing_rates(net, x.detach()).values())
    for ours, theirs in zip(*results, strict=True):
        assert ours.any()
        assert close(ours, theirs)


def test_columns_are_timesteps():
    """A column changes no output before its own timestep."""
    net = seasoned("sequential-cnn")
    x = image(net)
    other = x.clone()
    other[..., 5] += 1
    with torch.no_grad():
        same = [torch.equal(a, b) for a, b in zip(net(x), net(other), strict=True)]
    assert same[:5] == [True] * 5
    assert not same[5]


def test_what_it_refuses():
    with pytest.raises(ConfigError, match="found T = 4 and an image of 8 x 8"):
        models.build("sequential-cnn", T=4, input_size=8)
    with pytest.raises(ConfigError, match="a height that is a multiple of 4"):
        models.build("sequential-cnn", T=10, input_size=10)
    net = small("sequential-cnn")
    with pytest.raises(ConfigError, match=r"expected \(B, C, H, W\) with"):
        net(image(net).unsqueeze(0))
    with pytest.raises(ConfigError, match="one timestep at a time"):
        Stepping(net)
    net.spec = dataclasses.replace(net.spec, T=4)  # as `lsg eval -T 4`
    with pytest.raises(ConfigError, match="found T = 4"):
        net(image(net))
