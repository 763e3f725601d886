"""Small networks and what passes through them, for the tests of networks."""

import torch

from lsgcli import models
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
FIELD = {
    "resnet19-none": {"name": "resnet19", "width_multiplier": 1 / 32, "input_size": 8, "T": 3, "residual": "none", "depth": 9},
    "resnet19-normed": {
        "name": "resnet19",
        "width_multiplier": 1 / 32,
        "input_size": 8,
        "T": 3,
        "residual": "none",
        "depth": 9,
        "hidden_norm": True,
    },
    "sew-resnet18": {"name": "sew-resnet18", "width_multiplier": 1 / 16, "input_size": 8, "T": 3},
    "ms-resnet18": {"name": "ms-resnet18", "width_multiplier": 1 / 16, "input_size": 8, "T": 3},
    "max-resnet18": {"name": "max-resnet18", "width_multiplier": 1 / 32, "input_size": 8, "T": 3},
    "preact-resnet18": {"name": "preact-resnet18", "width_multiplier": 1 / 16, "input_size": 8, "T": 3},
    "sew-dvs-wide": {"name": "sew-dvs-wide", "width_multiplier": 1 / 16, "input_size": 12, "input_height": 9, "T": 3},
    "qkformer": {"name": "qkformer", "width_multiplier": 1 / 4, "input_size": 12, "input_height": 8, "T": 3},
    "qkformer-dvs": {"name": "qkformer-dvs", "width_multiplier": 1 / 8, "input_size": 24, "input_height": 16, "T": 3},
    "maxformer": {"name": "maxformer", "width_multiplier": 1 / 8, "input_size": 12, "input_height": 8, "T": 3},
    "maxformer-dvs": {"name": "maxformer-dvs", "width_multiplier": 1 / 8, "input_size": 24, "input_height": 16, "T": 3},
}

# Networks of images alone, whose tests are in files of their own.
OF_IMAGES = {"sequential-cnn": {"name": "sequential-cnn", "width_multiplier": 1 / 16, "input_size": 8, "T": 8}}


def small(which, *, seed=2, dtype=torch.float64, **arguments):
    """A network with a decay, a gamma and a mu of its own in each layer, so that all of them matter; it spikes everywhere."""
    torch.manual_seed(seed)
    net = models.build(**{**(SMALL | FIELD | OF_IMAGES)[which], **arguments}).to(dtype)
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
            net((image if net.images_only else sequence)(net, batch=batch, seed=seed))
    return net.eval()


def sequence(net, batch=2, seed=1):
    """Frames (T, B, C, H, W) for a network."""
    spec = net.spec
    x = normal(net.T, batch, spec.in_channels, spec.height, spec.input_size, seed=seed)
    return x.to(next(net.parameters()).dtype)


def image(net, batch=2, seed=1):
    """Static images (B, C, H, W) for a network."""
    return sequence(net, batch, seed)[0]


def backward(net, x, seed=2):
    """Logits, after a backward pass of a fixed random loss; gradients are left at the parameters."""
    logits = net(x)
    (logits * normal(*logits.shape, seed=seed).to(logits.dtype)).sum().backward()
    return logits.detach()


def firing_rates(net, x):
    """Name -> mean of the spikes of each layer of neurons, under the network's present mode."""
    rates, hooks = {}, []
    for layer in net.spiking_layers():

        def record(module, args, output, name=layer.name):
            rates[name] = output.detach().mean().item()

        hooks.append(layer.lif.register_forward_hook(record))
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return rates
