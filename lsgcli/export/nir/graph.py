"""Conversion of a folded network to a NIR graph. :mod:`lsgcli.export.nir.builder` defines the nodes.

A plug-in registers its networks and blocks with ``network.register`` and ``block.register``.
"""

import json
from functools import singledispatch
from math import prod

import nir
import numpy as np
import torch
from torch import nn

from lsgcli.errors import ConfigError
from lsgcli.export.nir.builder import SCALING, GraphBuilder, Signal
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm, SpikingConv
from lsgcli.models.mlp import MLP
from lsgcli.models.resnet19 import AddBlock, ResNet19, SewBlock
from lsgcli.models.vggsnn import VGGSNN


def draw(model: SpikingNet, dt: float) -> nir.NIRGraph:
    """The graph of a folded network, from frames (C, H, W) to logits (classes, 1, 1), with metadata.

    LIF nodes are named after the network's layers of neurons; the convolution that feeds a layer is ``LAYER.synapse``.

    Args:
        model: in evaluation mode, on the CPU.
        dt: duration of a timestep, in seconds.

    Raises:
        ConfigError: NIR cannot represent the network.
    """
    layers = model.spiking_layers()
    builder = GraphBuilder({layer.lif: layer.name for layer in layers}, dt)
    with torch.no_grad():
        logits = network(model, builder)
    builder.add("output", nir.Output(np.array(logits.shape)), logits)
    # Shapes as in torch, where neurons of a linear layer have no height and width.
    shapes = {layer.name: builder.nodes[layer.name].output_type["output"].tolist() for layer in layers}
    linear = {layer.name for layer in layers if isinstance(layer.synapse, nn.Linear)}
    about = {
        "T": model.T,
        "dt": dt,
        "readout": "mean over T",
        "scaling": SCALING,
        "layers": json.dumps({name: shape[:1] if name in linear else shape for name, shape in shapes.items()}),
    }
    return nir.NIRGraph(builder.nodes, builder.edges, metadata=about)


@singledispatch
def network(model: nn.Module, builder: GraphBuilder) -> Signal:
    """Add a network and its input; returns its logits."""
    raise _unknown(model, "network")


@singledispatch
def block(module: nn.Module, x: Signal, builder: GraphBuilder) -> Signal:
    """Add a block with the input ``x``; returns its output."""
    raise _unknown(module, "block")


def _unknown(module: nn.Module, what: str) -> ConfigError:
    return ConfigError(
        f"NIR: found the {what} {type(module).__name__}, for which no conversion is registered",
        hint="A plug-in can register a conversion: see lsgcli.export.nir.graph.",
    )


@network.register
def _vggsnn(model: VGGSNN, builder: GraphBuilder) -> Signal:
    x = builder.input(_frame(model))
    for part in model.features:
        x = block(part, x, builder)
    return builder.linear("classifier", x, model.classifier)


@network.register
def _mlp(model: MLP, builder: GraphBuilder) -> Signal:
    x = builder.input((prod(_frame(model)), 1, 1))
    for part in model.hidden:
        x = block(part, x, builder)
    return builder.linear("classifier", x, model.classifier)


@network.register
def _resnet19(model: ResNet19, builder: GraphBuilder) -> Signal:
    x = block(model.stem, builder.input(_frame(model)), builder)
    for stage in model.stages:
        for part in stage:  # type: ignore[attr-defined]
            x = block(part, x, builder)
    x = builder.average("pool", x, x.shape[1:])
    x = builder.neurons(model.hidden_lif, builder.linear("hidden.synapse", x, model.hidden))
    return builder.linear("classifier", x, model.classifier)


@block.register
def _spiking_conv(module: SpikingConv, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    spikes = builder.neurons(module.lif, _current(module.current, f"{name}.synapse", x, builder))
    if module.pool is None:
        return spikes
    side = module.pool.kernel_size
    assert isinstance(side, int)
    return builder.average(f"{name}.pool", spikes, (side, side))


@block.register
def _add_block(module: AddBlock, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    current = _current(module.second, f"{name}.synapse", block(module.first, x, builder), builder)
    if isinstance(module.shortcut, nn.Identity):
        return builder.neurons(module.lif, current, x)
    x = builder.after(f"{name}.order", current, x)
    return builder.neurons(module.lif, current, _current(module.shortcut, f"{name}.shortcut", x, builder))


@block.register
def _sew_block(module: SewBlock, x: Signal, builder: GraphBuilder) -> Signal:
    spikes = block(module.second, block(module.first, x, builder), builder)
    if not isinstance(module.shortcut, nn.Identity):
        x = builder.after(f"{builder.names[module.second.lif]}.order", spikes, x)
        x = block(module.shortcut, x, builder)
    return Signal((*spikes.sources, *x.sources), spikes.shape)


def _current(module: nn.Module, name: str, x: Signal, builder: GraphBuilder) -> Signal:
    """A convolution with folded tdBN."""
    assert isinstance(module, ConvNorm)
    if not isinstance(module.norm, nn.Identity):
        raise ConfigError(
            f"NIR: {name}: found {type(module.norm).__name__}, expected it folded into the convolution",
            hint="NIR has no normalisation: omit --no-fold-bn.",
        )
    return builder.convolution(name, x, module.conv)


def _frame(model: SpikingNet) -> tuple[int, int, int]:
    return model.spec.in_channels, model.spec.height, model.spec.input_size
