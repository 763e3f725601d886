"""NIR, the Neuromorphic Intermediate Representation: a graph for other simulators and neuromorphic toolchains.

Source: Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for interoperable brain-inspired
computing", Nature Communications 15, 2024, doi 10.1038/s41467-024-52259-9.

The nodes are chosen so that all tested simulators compute equal spikes, see docs/nir.md. NIR's neuron is
tau dv/dt = (v_leak - v) + r I;  it fires if v > v_threshold, after which v = v_reset. With r = 1, v_leak = v_reset = 0 and
tau = dt / (1 - beta), a forward Euler step of dt gives v = (1 - beta) u, so v_threshold = (1 - beta) v_th. NIR's neuron fires only above
the threshold, lsg's also at it, so the stored threshold is the next smaller float32. Average pooling is SumPool2d with 1/k^2 in the
following weights, and a linear layer is a convolution of the size of its input. A node with several incoming edges receives their sum.
"""

import io
import json
from collections.abc import Iterable
from functools import singledispatch
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lsgcli.config.fields import Values
from lsgcli.data import hdf5
from lsgcli.data.guard import foreign
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import AGAIN, ExportOptions, Format, metadata, read_metadata
from lsgcli.export.nir_graph import GraphBuilder, Signal
from lsgcli.export.runners import Runner
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm, MaxPooledConv, SpikingConv
from lsgcli.models.mlp import MLP
from lsgcli.models.ms_resnet import MsBlock, MsResNet18
from lsgcli.models.resnet19 import AddBlock, PlainBlock, ResNet, ResNet19, SewBlock
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint

try:
    import nir
except ImportError:
    nir = None  # type: ignore[assignment]  # reported by NIR.check

SCALING = (
    "tau = dt / (1 - beta), r = 1, v_leak = v_reset = 0, v_threshold = (1 - beta) v_th; v = (1 - beta) u; "
    "with an input gain of 1 - beta, v_threshold = v_th and v = u"
)
OTHERS = "Use --format onnx."


@register("format", "nir")
class NIR(Format):
    """A graph of convolutions, summing pools and LIF neurons, in one HDF5 file."""

    suffix = ".nir"
    magic = rb"\x89HDF"
    extra = "nir"
    packages = ("nir",)
    options: Values = {"dt": 1e-4, "quantize": None}  # seconds; snntorch supports no other value

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        """Write the graph of a folded network, see :func:`draw`."""
        assert options.dt is not None
        graph = draw(network, options.dt)
        graph.metadata |= {**metadata(content), "classes": json.dumps(content.config["classes"])}
        file = io.BytesIO()
        nir.write(file, graph)
        path.write_bytes(file.getvalue())

    def open(self, path: Path) -> Runner:
        """The graph, run by a small interpreter in torch."""
        from lsgcli.export.nir_runner import Interpreter

        with foreign(path, "a NIR graph", hint=AGAIN, kind=CheckpointError):
            with hdf5.opened(path):
                graph = nir.read(path)
            return Interpreter(graph, read_metadata(graph.metadata, path), path)


@torch.no_grad()
def draw(model: SpikingNet, dt: float) -> "nir.NIRGraph":
    """The graph of a folded network, from frames (C, H, W) to logits (classes, 1, 1), with metadata.

    LIF nodes are named after the network's layers of neurons; the convolution that feeds a layer is ``LAYER.synapse``. A plug-in
    registers its networks and blocks with ``convert.register``.

    Args:
        model: in evaluation mode, on the CPU.
        dt: duration of a timestep, in seconds.

    Raises:
        ConfigError: NIR cannot represent the network.
    """
    layers = model.spiking_layers()
    builder = GraphBuilder({layer.lif: layer.name for layer in layers}, dt)
    logits = convert(model, builder.input(model.spec.in_channels, model.spec.height, model.spec.input_size), builder)
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
def convert(module: nn.Module, x: Signal, builder: GraphBuilder) -> Signal:
    """Add a network or block with the input ``x``; returns its output.

    Raises:
        ConfigError: no conversion is registered for its class.
    """
    raise ConfigError(
        f"NIR: found {type(module).__name__}, for which no conversion is registered",
        f"{OTHERS} A plug-in can register a conversion: see lsgcli.export.nir.convert.",
    )


@convert.register
def _vggsnn(model: VGGSNN, x: Signal, builder: GraphBuilder) -> Signal:
    return builder.linear("classifier", _blocks(model.features, x, builder), model.classifier)


@convert.register
def _mlp(model: MLP, x: Signal, builder: GraphBuilder) -> Signal:
    flat = builder.input(prod(x.shape), 1, 1)
    return builder.linear("classifier", _blocks(model.hidden, flat, builder), model.classifier)


@convert.register
def _resnet(model: ResNet, x: Signal, builder: GraphBuilder) -> Signal:
    return builder.linear("classifier", _average(_stages(model, x, builder), builder), model.classifier)


@convert.register
def _resnet19(model: ResNet19, x: Signal, builder: GraphBuilder) -> Signal:
    x = _average(_stages(model, x, builder), builder)
    if isinstance(model.hidden, SpikingConv):
        x = convert(model.hidden, x, builder)
    else:
        x = builder.neurons(model.hidden_lif, builder.linear("hidden.synapse", x, model.hidden))
    return builder.linear("classifier", x, model.classifier)


@convert.register
def _ms_resnet18(model: MsResNet18, x: Signal, builder: GraphBuilder) -> Signal:
    x = builder.neurons(model.lif, _stages(model, x, builder))
    return builder.linear("classifier", _average(x, builder), model.classifier)


@convert.register
def _max_pooled_conv(module: MaxPooledConv, x: Signal, builder: GraphBuilder) -> Signal:
    raise ConfigError(f"NIR: {builder.names[module.lif]}: found max pooling, for which NIR has no nodes", OTHERS)


@convert.register
def _spiking_conv(module: SpikingConv, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    spikes = builder.neurons(module.lif, _current(module.current, f"{name}.synapse", x, builder))
    return spikes if module.pool is None else builder.average(f"{name}.pool", spikes, module.pool.kernel_size)


@convert.register
def _add_block(module: AddBlock, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    current = _current(module.second, f"{name}.synapse", convert(module.first, x, builder), builder)
    if isinstance(module.shortcut, nn.Identity):
        return builder.neurons(module.lif, current, x)
    x = builder.after(f"{name}.order", current, x)
    return builder.neurons(module.lif, current, _current(module.shortcut, f"{name}.shortcut", x, builder))


@convert.register
def _plain_block(module: PlainBlock, x: Signal, builder: GraphBuilder) -> Signal:
    return convert(module.second, convert(module.first, x, builder), builder)


@convert.register
def _ms_block(module: MsBlock, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif].removesuffix(".lif1")
    current = convert(module.first, builder.neurons(module.lif, x), builder)
    current = _current(module.second, f"{name}.residual", current, builder)
    if not isinstance(module.shortcut, nn.Identity):
        x = _current(module.shortcut, f"{name}.shortcut", builder.after(f"{name}.order", current, x), builder)
    return Signal((*x.sources, *current.sources), current.shape)  # in the order in which torch adds them


@convert.register
def _sew_convert(module: SewBlock, x: Signal, builder: GraphBuilder) -> Signal:
    spikes = convert(module.second, convert(module.first, x, builder), builder)
    if not isinstance(module.shortcut, nn.Identity):
        x = builder.after(f"{builder.names[module.second.lif]}.order", spikes, x)
        x = convert(module.shortcut, x, builder)
    return Signal((*spikes.sources, *x.sources), spikes.shape)


def _stages(model: ResNet, x: Signal, builder: GraphBuilder) -> Signal:
    """Stem and blocks."""
    stem = _current(model.stem, "stem", x, builder) if isinstance(model.stem, ConvNorm) else convert(model.stem, x, builder)
    return _blocks((block for _, block in model.blocks()), stem, builder)


def _average(x: Signal, builder: GraphBuilder) -> Signal:
    """Global average pooling."""
    return builder.average("pool", x, x.shape[1:])


def _blocks(modules: Iterable[nn.Module], x: Signal, builder: GraphBuilder) -> Signal:
    for module in modules:
        x = convert(module, x, builder)
    return x


def _current(module: nn.Module, name: str, x: Signal, builder: GraphBuilder) -> Signal:
    """A convolution with folded tdBN."""
    assert isinstance(module, ConvNorm)
    if not isinstance(module.norm, nn.Identity):
        raise ConfigError(
            f"NIR: {name}: found {type(module.norm).__name__}, expected it folded into the convolution",
            "NIR has no normalisation: omit --no-fold-bn.",
        )
    conv = module.conv
    if conv.groups > 1:
        raise ConfigError(f"NIR: {name}: found a convolution with {conv.groups} groups, expected one", OTHERS)
    return builder.weights(name, x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)
