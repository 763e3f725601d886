"""NIR, the Neuromorphic Intermediate Representation: a graph for other simulators and neuromorphic toolchains.

Source: Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for interoperable brain-inspired
computing", Nature Communications 15, 2024, doi 10.1038/s41467-024-52259-9.

The nodes are chosen so that all tested simulators compute equal spikes, see docs/export/nir.md. NIR's neuron is
tau dv/dt = (v_leak - v) + r I;  it fires if v > v_threshold, after which v = v_reset. With r = 1, v_leak = v_reset = 0 and
tau = dt / (1 - beta), a forward Euler step of dt gives v = (1 - beta) u, so v_threshold = (1 - beta) v_th. NIR's neuron fires only above
the threshold, lsg's also at it, so the stored threshold is the next smaller float32. Average pooling is SumPool2d with 1/k^2 in the
following weights, and a linear layer is a convolution of the size of its input. A node with several incoming edges receives their sum.
"""

import copy
import io
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from graphlib import TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.data import hdf5
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import ExportOptions, Format, metadata, read_metadata, reading
from lsgcli.export.graphs import other_than_lif
from lsgcli.export.runners import Output, Runner
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm, SpikingConv
from lsgcli.models.max_resnet import MaxResNet18
from lsgcli.models.mlp import MLP
from lsgcli.models.ms_resnet import MsBlock, MsResNet18
from lsgcli.models.nir import GraphNet, Neurons, Pool
from lsgcli.models.preact_resnet import PreActResNet18
from lsgcli.models.qkformer import SpikingTransformer
from lsgcli.models.quantise import integers
from lsgcli.models.resnet19 import AddBlock, PlainBlock, ResNet, ResNet19, SewBlock
from lsgcli.models.sequential import SequentialCNN
from lsgcli.models.sew import SewDVS
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.neurons import LIF
from lsgcli.neurons.step import over_channels
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system import schema

try:
    import nir
except ImportError:
    nir = None  # type: ignore[assignment]  # reported by NIR.check

SCALING = (
    "tau = dt / (1 - beta), r = 1, v_leak = v_reset = 0, v_threshold = (1 - beta) v_th; v = (1 - beta) u; "
    "with an input gain of 1 - beta, v_threshold = v_th and v = u"
)
OTHERS = "Use --format onnx or pt2."
# Networks that NIR cannot represent, and why.
REFUSED = {
    (SewDVS, MaxResNet18): "max pooling, for which NIR has no nodes",
    (SpikingTransformer,): "max pooling and products of spikes, for which NIR has no nodes",
    (PreActResNet18,): "a normalisation of sums, expected one that convolutions can include",
    (SequentialCNN,): "timesteps that are columns of an image, expected frames as inputs",
}


@register("format", "nir")
class NIR(Format):
    """A graph of convolutions, summing pools and LIF neurons, in one HDF5 file."""

    suffix = ".nir"
    magic = rb"\x89HDF"
    extra = "nir"
    packages = ("nir",)
    options: ClassVar[Mapping[str, Any]] = {"dt": 1e-4, "quantize": None}  # seconds; snntorch supports no other value

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        """Write the graph of a folded network, see :func:`draw`."""
        assert options.dt is not None
        graph = draw(network, options.dt, network.spec.bits if options.quantize else None)
        graph.metadata |= {**metadata(content), "classes": json.dumps(content.config["classes"])}
        file = io.BytesIO()
        nir.write(file, graph)
        path.write_bytes(file.getvalue())

    def open(self, path: Path) -> Runner:
        """The graph, run by a small interpreter in torch."""
        with reading(path, "cannot be read as a NIR graph"):
            with hdf5.opened(path):
                graph = nir.read(path)
            return _Interpreter(graph, read_metadata(graph.metadata, path), path)


@dataclass(frozen=True)
class Signal:
    """An edge value: ``scale`` times the sum of the outputs of the nodes ``sources``, each of ``shape`` (C, H, W)."""

    sources: tuple[str, ...]
    shape: tuple[int, int, int]
    scale: float = 1.0


@dataclass
class GraphBuilder:
    """Builds a graph node by node.

    Attributes:
        names: names of the layers of neurons.
        dt: duration of a timestep, in seconds.
        bits: bits of the weights, if they are quantised.
        nodes: nodes by name.
        edges: (source, target), in topological order.
    """

    names: dict[LIF, str]
    dt: float
    bits: int | None = None
    nodes: "dict[str, nir.NIRNode]" = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    scales: dict[str, list[float]] = field(default_factory=dict)  # of the weights of each node, per output channel

    def add(self, name: str, node: "nir.NIRNode", *inputs: Signal) -> None:
        """Add a node whose input is the sum of ``inputs``."""
        self.nodes[name] = node
        self.edges += [(source, name) for signal in inputs for source in signal.sources]

    def input(self, channels: int, height: int, width: int) -> Signal:
        """The input node, for frames."""
        self.add("input", nir.Input(np.array((channels, height, width))))
        return Signal(("input",), (channels, height, width))

    def weights(self, name: str, x: Signal, weight: Tensor, bias: Tensor | None, **geometry: Any) -> Signal:
        """A convolution; arguments as for :func:`torch.nn.functional.conv2d`, where ``geometry`` is stride, padding and dilation."""
        scaled = (weight.double() * x.scale).float()
        if self.bits is not None:
            self.scales[name] = integers(scaled, self.bits)[1].tolist()
        plain = np.zeros(len(weight), np.float32) if bias is None else bias.float().numpy()
        pairs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), **geometry}
        node = nir.Conv2d(
            x.shape[1:], scaled.numpy(), groups=1, bias=plain, **{key: tuple(pair) for key, pair in pairs.items()}
        )
        self.add(name, node, x)
        channels, height, width = (int(n) for n in node.output_type["output"])
        return Signal((name,), (channels, height, width))

    def linear(self, name: str, x: Signal, linear: nn.Linear) -> Signal:
        """A linear layer of the flattened input, as a convolution with one position.

        NIR infers shapes for square kernels only, so the kernel is a square that covers the input, padded with zeros.
        """
        channels, height, width = x.shape
        side = max(height, width)
        top, left = (side - height + 1) // 2, (side - width + 1) // 2
        weight = linear.weight.new_zeros(linear.out_features, channels, side, side)
        weight[:, :, top : top + height, left : left + width] = linear.weight.unflatten(1, x.shape)
        # The stride prevents a second position if the padding has a surplus row or column.
        return self.weights(name, x, weight, linear.bias, stride=(2, 2), padding=(top, left))

    def neurons(self, lif: LIF, *currents: Signal) -> Signal:
        """A layer of neurons whose input is the sum of ``currents``.

        Raises:
            ConfigError: NIR cannot represent the neurons.
        """
        name, shape = self.names[lif], currents[0].shape
        if (description := other_than_lif(lif)) is not None:
            raise ConfigError(
                f"NIR: {name}: found {description}, expected LIF with spikes of 0 and 1",
                hint="NIR's LIF has a hard reset without delay; soft reset and other neurons cannot be represented.",
            )
        if (options := (lif.config.reset, lif.config.init_potential)) != ("hard", "zero"):
            raise ConfigError(
                f"NIR: {name}: found neurons of --reset {options[0]} and --init-potential {options[1]}, expected hard and zero",
                hint="NIR's LIF has a hard reset and starts at 0. Use --format onnx, pt2, or safetensors.",
            )
        beta = over_channels(lif.beta.detach().double(), len(shape) - 1)
        tau = (self.dt / (1 - beta)).float().numpy()
        threshold, sign = lif.firing()
        if sign is not None and (sign < 0).any():
            raise ConfigError(
                f"NIR: {name}: found MPBN with a negative weight, expected weights of at least 0: NIR's LIF fires above its threshold",
                hint="Use --format onnx, pt2, or safetensors.",
            )
        v_th = over_channels(torch.as_tensor(threshold, dtype=torch.float64), len(shape) - 1).numpy()
        # Computed from the stored tau, so that both have the same rounding. With a gain of 1 - beta, v is u itself.
        scaled = v_th * (self.dt / tau.astype(np.float64) if lif.config.input_gain == "1" else np.ones_like(tau))
        below = np.nextafter(scaled.astype(np.float32), np.float32(-np.inf))
        zeros, ones = np.zeros_like(tau), np.ones_like(tau)
        values = {"tau": tau, "r": ones, "v_leak": zeros, "v_threshold": below, "v_reset": zeros}
        self.add(name, nir.LIF(**{key: np.broadcast_to(value, shape).copy() for key, value in values.items()}), *currents)
        return Signal((name,), shape)

    def average(self, name: str, x: Signal, size: Any) -> Signal:
        """Average pooling with windows of ``size`` (int or pair): a sum pool; the factor is applied to the next weights."""
        window = np.broadcast_to(size, 2).copy()
        return self.sums(name, x, window, window, (0, 0), 1 / int(window.prod()))

    def sums(self, name: str, x: Signal, kernel: Any, stride: Any, padding: Any, scale: float = 1.0) -> Signal:
        """A sum pool with windows of ``kernel``, whose output represents ``scale`` times the sums."""
        size, step, zeros = (np.array(pair) for pair in (kernel, stride, padding))
        self.add(name, nir.SumPool2d(kernel_size=size, stride=step, padding=zeros), x)
        height, width = (int(n) for n in (np.array(x.shape[1:]) + 2 * zeros - size) // step + 1)
        return Signal((name,), (x.shape[0], height, width), x.scale * scale)

    def after(self, name: str, first: Signal, x: Signal) -> Signal:
        """``x`` unchanged, but ordered after ``first``.

        norse executes a graph depth first, so after a fork it would reach the join of two branches before running the second branch,
        and use that branch's value of the previous step. A convolution with zero weights from the end of the first branch to the
        beginning of the second enforces the order and adds 0.
        """
        missing = np.array(x.shape[1:]) - first.shape[1:]
        side = 2 if (missing % 2).any() else 1
        dilation = 2 - missing % 2
        padding = (missing + (side - 1) * dilation) // 2
        zeros = torch.zeros(x.shape[0], first.shape[0], side, side)
        nothing = self.weights(name, first, zeros, None, padding=padding.tolist(), dilation=dilation.tolist())
        return Signal((*x.sources, *nothing.sources), x.shape, x.scale)


@torch.no_grad()
def draw(model: SpikingNet, dt: float, bits: int | None = None) -> "nir.NIRGraph":
    """The graph of a folded network, from frames (C, H, W) to logits (classes, 1, 1), with metadata.

    LIF nodes are named after the network's layers of neurons; the convolution that feeds a layer is ``LAYER.synapse``. A plug-in
    registers its networks and blocks with ``convert.register``.

    Args:
        model: in evaluation mode, on the CPU.
        dt: duration of a timestep, in seconds.
        bits: bits of the weights, if they are quantised; the metadata then include their scales.

    Raises:
        ConfigError: NIR cannot represent the network.
    """
    layers = model.spiking_layers()
    builder = GraphBuilder({layer.lif: layer.name for layer in layers}, dt, bits)
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
    if bits is not None:
        about["quantization"] = json.dumps({"bits": bits, "scales": builder.scales})
    return nir.NIRGraph(builder.nodes, builder.edges, metadata=about)


@singledispatch
def convert(module: nn.Module, x: Signal, builder: GraphBuilder) -> Signal:
    """Add a network or block with the input ``x``; returns its output.

    Raises:
        ConfigError: no conversion is registered for its class.
    """
    what = "network" if isinstance(module, SpikingNet) else "block"
    raise ConfigError(
        f"NIR: found the {what} {type(module).__name__}, for which no conversion is registered",
        hint="A plug-in can register a conversion: see lsgcli.export.nir.convert.",
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
def _graph(model: GraphNet, x: Signal, builder: GraphBuilder) -> Signal:
    if model.is_flat:
        x = builder.input(prod(x.shape), 1, 1)
    layers, follow = list(model.described()), False  # whether the latest weights include the factors of the pools after them
    for i, (layer, module) in enumerate(layers):
        if isinstance(layer, Neurons):
            x, follow = builder.neurons(module, x), False
        elif isinstance(layer, Pool):
            x = builder.sums(layer.name, x, layer.kernel, layer.stride, layer.padding, 1.0 if follow else _factor(layer))
        else:
            pools = list(itertools.takewhile(lambda later: isinstance(later[0], Pool), layers[i + 1 :]))
            after = layers[i + 1 + len(pools) :]
            follow = not after or isinstance(after[0][0], Neurons)
            x = _weights(layer.name, module, x, prod(_factor(pool) for pool, _ in pools) if follow else 1.0, builder)
    if x.scale != 1:
        raise ConfigError("NIR: found average pooling of spikes at the end, expected neurons or weights", hint=OTHERS)
    return x


def _factor(pool: Any) -> float:
    return 1 / prod(pool.kernel) if pool.average else 1.0


def _weights(name: str, module: nn.Module, x: Signal, factor: float, builder: GraphBuilder) -> Signal:
    """A convolution or linear layer, multiplied by a factor."""
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        parameter.mul_(factor)
    if isinstance(module, nn.Linear):
        return builder.linear(name, x, module)
    assert isinstance(module, nn.Conv2d)
    return _convolution(name, module, x, builder)


def _convolution(name: str, conv: nn.Conv2d, x: Signal, builder: GraphBuilder) -> Signal:
    if conv.groups > 1:
        raise ConfigError(f"NIR: {name}: found a convolution with {conv.groups} groups, expected one", hint=OTHERS)
    geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    return builder.weights(name, x, conv.weight, conv.bias, **geometry)


@convert.register
def _refused(
    model: SewDVS | MaxResNet18 | SpikingTransformer | PreActResNet18 | SequentialCNN, x: Signal, builder: GraphBuilder
) -> Signal:
    problem = next(text for kinds, text in REFUSED.items() if isinstance(model, kinds))
    raise ConfigError(f"NIR: {type(model).__name__}: found {problem}", hint=OTHERS)


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
            hint="NIR has no normalisation: omit --no-fold-bn.",
        )
    return _convolution(name, module.conv, x, builder)


class _Interpreter(Runner):
    """Runs the graph node by node, each node over all timesteps, with forward Euler steps of dt."""

    def __init__(self, graph: "nir.NIRGraph", config: dict[str, Any], path: Path):
        super().__init__(config)
        if (list(graph.inputs), list(graph.outputs)) != (["input"], ["output"]):
            nodes = ", ".join([*graph.inputs, *graph.outputs])
            raise CheckpointError(
                f"{path}: found {nodes}, expected one input and one output", hint="Export the checkpoint again."
            )
        self.nodes, self.dt = graph.nodes, float(graph.metadata["dt"])
        self.layers: dict[str, list[int]] = schema.decode(
            graph.metadata["layers"], dict[str, list[int]], f"{path}: layers", CheckpointError
        )
        stated = {name: prod(shape) for name, shape in self.layers.items()}
        neurons = {name: node.v_threshold.size for name, node in self.nodes.items() if isinstance(node, nir.LIF)}
        if differing := sorted(name for name in stated | neurons if stated.get(name) != neurons.get(name)):
            found = ", ".join(f"{name} with {stated.get(name, 'no')} neurons" for name in differing[:5])
            expected = ", ".join(f"{name} with {neurons.get(name, 'no')}" for name in differing[:5])
            raise CheckpointError(
                f"{path}: layers: found {found}, expected {expected}, as in the graph", hint="Export the checkpoint again."
            )
        self.sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
        self.order = list(TopologicalSorter(self.sources).static_order())

    @torch.no_grad()
    def run(self, x: Tensor) -> Output:
        """Run frames (T, B, C, H, W), or images (B, C, H, W) presented T times.

        Raises:
            ConfigError: the shape of the input does not match the graph.
        """
        if x.dim() == 4:
            x = x.expand(self.T, *x.shape)
        shape = self.nodes["input"].output_type["output"].tolist()
        if x.dim() != 5 or prod(x.shape[2:]) != prod(shape):
            raise ConfigError(f"input: found {tuple(x.shape)}, expected (T, B, C, H, W) with C, H, W = {tuple(shape)}")
        outputs = {"input": x.reshape(*x.shape[:2], *shape)}
        spikes = {}
        last_reader = {source: name for name in self.order for source in self.sources[name]}
        for name in self.order:
            inputs = [outputs[source] for source in self.sources[name]]
            if inputs:
                outputs[name] = execute(self.nodes[name], sum(inputs[1:], inputs[0]), self.dt)
            if name in self.layers:
                spikes[name] = outputs[name].reshape(*x.shape[:2], *self.layers[name])
            for source in self.sources[name]:
                if last_reader[source] == name:
                    del outputs[source]
        return Output(outputs["output"].flatten(2), spikes)


def execute(node: "nir.NIRNode", x: Tensor, dt: float) -> Tensor:
    """The output (T, B, ...) of a node for the input x (T, B, ...).

    Raises:
        CheckpointError: the node is of a type that lsg does not write.
    """
    if isinstance(node, nir.Output):
        return x
    if isinstance(node, nir.LIF):
        return _fire(node, x, dt)
    if isinstance(node, nir.Conv2d):
        stride, padding, dilation = (tuple(map(int, pair)) for pair in (node.stride, node.padding, node.dilation))
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        out = F.conv2d(x.flatten(0, 1), weight, bias, stride, padding, dilation, int(node.groups))
    elif isinstance(node, nir.SumPool2d):
        size, stride, padding = (tuple(map(int, pair)) for pair in (node.kernel_size, node.stride, node.padding))
        out = F.avg_pool2d(x.flatten(0, 1), size, stride, padding, divisor_override=1)
    else:
        raise CheckpointError(
            f"found a node {type(node).__name__}, expected one written by lsg", hint="Export the checkpoint again."
        )
    return out.unflatten(0, x.shape[:2])


def _fire(node: "nir.LIF", x: Tensor, dt: float) -> Tensor:
    tau, r, leak, threshold, reset = map(torch.from_numpy, (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset))
    gain = (dt / tau.double()).to(tau.dtype)
    v, spikes = leak.expand(x.shape[1:]), []
    for current in x:
        v = v + gain * (leak - v + r * current)
        fired = v > threshold
        v = torch.where(fired, reset, v)
        spikes.append(fired.to(x.dtype))
    return torch.stack(spikes)
