"""Small networks and what passes through them, for the tests of networks."""

import pytest
import torch

from lsgcli import models
from lsgcli.analysis.rates import FiringRates
from lsgcli.models.qkformer import TokenAttention
from lsgcli.neurons import TdBatchNorm2d
from tests.unit.neurons.helpers import normal

# name -> arguments of a network of a few channels.
SMALL = {
    "vggsnn": {"name": "vggsnn", "width_multiplier": 1 / 64, "input_size": 16, "T": 3},
    "resnet19-add": {"name": "resnet19", "width_multiplier": 1 / 32, "input_size": 8, "T": 3, "residual": "add"},
    "resnet19-sew": {"name": "resnet19", "width_multiplier": 1 / 32, "input_size": 8, "T": 3, "residual": "sew"},
    "mlp": {"name": "mlp", "width_multiplier": 1 / 32, "input_size": 9, "input_height": 1, "T": 3, "num_classes": 10},
}

# Further networks, which have few tests of their own.
PLAIN = {"name": "resnet19", "width_multiplier": 1 / 32, "input_size": 8, "T": 3, "residual": "none", "depth": 9}
FIELD = {
    "resnet19-none": PLAIN,
    "resnet19-normed": {**PLAIN, "hidden_norm": True},
    **{
        name: {"name": name, "width_multiplier": 1 / narrow, "input_size": width, "input_height": height, "T": 3}
        for name, narrow, width, height in (
            ("sew-resnet18", 16, 8, None),
            ("ms-resnet18", 16, 8, None),
            ("max-resnet18", 32, 8, None),
            ("qkformer", 4, 12, 8),
            ("qkformer-dvs", 8, 24, 16),
        )
    },
}
# Networks whose blocks others have too.
ALIKE = ("resnet19-normed", "qkformer")
EVERY = [*SMALL, *(pytest.param(which, marks=[pytest.mark.slow] if which in ALIKE else []) for which in FIELD)]
# Of docs/plugins; tests of it have the fixture ``plugins``.
PLUGINS = {
    "sequential-cnn": {"name": "sequential-cnn", "width_multiplier": 1 / 16, "input_size": 8, "T": 8},
    "preact-resnet18": {"name": "preact-resnet18", "width_multiplier": 1 / 16, "input_size": 8, "T": 3},
    "sew-dvs-wide": {"name": "sew-dvs-wide", "width_multiplier": 1 / 16, "input_size": 12, "input_height": 9, "T": 3},
    "maxformer": {"name": "maxformer", "width_multiplier": 1 / 8, "input_size": 12, "input_height": 8, "T": 3},
    "maxformer-dvs": {"name": "maxformer-dvs", "width_multiplier": 1 / 8, "input_size": 24, "input_height": 16, "T": 3},
}


def small(which, *, seed=2, dtype=torch.float64, **arguments):
    """A network with a decay, a gamma and a mu of its own in each layer, so that all of them matter; it spikes everywhere."""
    torch.manual_seed(seed)
    net = models.build(**{**(SMALL | FIELD | PLUGINS)[which], **arguments}).to(dtype)
    with torch.no_grad():
        for index, layer in enumerate(net.spiking_layers()):
            layer.lif.b.add_(0.15 * index)
            if layer.lif.b.dim():  # a decay per channel
                layer.lif.b.add_(torch.linspace(-1, 1, len(layer.lif.b)))
        for module in net.modules():
            if isinstance(module, TdBatchNorm2d):
                module.weight.uniform_(0.8, 2.5)
                module.bias.uniform_(-0.1, 0.5)
        for module in net.modules():
            if isinstance(module, TokenAttention):  # a few spikes of q per head, rather than always one
                module.inputs["q"].current.norm.bias.sub_(1.5)
        net.classifier.weight.mul_(2)
    return net


def seasoned(which, *, batch=4, **arguments):
    """Such a network in evaluation mode, with running statistics of its own activations: it spikes in all layers."""
    net = small(which, **arguments)
    for module in net.modules():
        if isinstance(module, TdBatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        for seed in range(3):
            net(sequence(net, batch=batch, seed=seed))
    return net.eval()


def lif(neurons, current, v_th):
    """LIF neurons of the method ``lsg`` by autograd, from their equation, with a rectangular surrogate of width 2 v_th sqrt(1 + beta^2)."""
    beta, u, o, spikes = neurons.b.sigmoid(), 0, 0, []
    alpha = 2 * v_th * (1 + beta.detach() ** 2).sqrt()
    for now in current:
        u = beta * u * (1 - o) + now
        passed = ((u - v_th) / alpha).clamp(-0.5, 0.5)
        o = (u >= v_th).to(u.dtype) + (passed - passed.detach())
        spikes.append(o)
    return torch.stack(spikes)


def stepped(graph, x):
    """Logits (T, B, classes) of a graph of one timestep, for frames (T, B, C, H, W)."""
    state, logits = graph.rest(x[0]), []
    for frame in x:
        now, *state = graph(frame, *state)
        logits.append(now)
    return torch.stack(logits)


def sequence(net, batch=2, seed=1):
    """Frames (T, B, C, H, W) for a network, or images if it takes nothing else."""
    if net.images_only:
        return image(net, batch, seed)
    spec = net.spec
    x = normal(net.T, batch, spec.in_channels, spec.height, spec.input_size, seed=seed)
    return x.to(next(net.parameters()).dtype)


def image(net, batch=2, seed=1):
    spec = net.spec
    x = normal(net.T, batch, spec.in_channels, spec.height, spec.input_size, seed=seed)
    return x[0].to(next(net.parameters()).dtype)


def backward(net, x, seed=2):
    """Logits, after a backward pass of a fixed random loss; gradients are left at the parameters."""
    logits = net(x)
    (logits * normal(*logits.shape, seed=seed).to(logits.dtype)).sum().backward()
    return logits.detach()


def firing_rates(net, x):
    """Name -> mean of the spikes of each layer of neurons, under the network's present mode."""
    rates = FiringRates(net)
    with torch.no_grad():
        net(x)
    return rates.close()
