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
from dataclasses import dataclass, field
from functools import singledispatch
from graphlib import TopologicalSorter
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.config.fields import Values
from lsgcli.data import hdf5
from lsgcli.data.guard import Damaged, damaged, foreign
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import AGAIN, ExportOptions, Format, metadata, read_metadata
from lsgcli.export.graphs import other_than_lif
from lsgcli.export.runners import Output, Runner
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm, MaxPooledConv, SpikingConv
from lsgcli.models.mlp import MLP
from lsgcli.models.ms_resnet import MsBlock, MsResNet
from lsgcli.models.resnet19 import AddBlock, PlainBlock, ResNet, ResNet19, SewBlock
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.neurons import LIF
from lsgcli.neurons.step import over_channels
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system import schema
from lsgcli.system.schema import Record

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
    graph = GraphBuilder({layer.lif: layer.name for layer in layers}, dt)
    frames = graph.input(model.spec.in_channels, model.spec.height, model.spec.input_size)
    logits = convert(model, frames, graph)
    graph.add("output", nir.Output(np.array(logits.shape)), logits)
    shapes = {}
    for layer in layers:
        # As in torch, where neurons of a linear layer have no height and width.
        axes = 1 if isinstance(layer.synapse, nn.Linear) else 3
        shapes[layer.name] = graph.nodes[layer.name].tau.shape[:axes]
    about = {"T": model.T, "dt": dt, "readout": "mean over T", "scaling": SCALING}
    about["layers"] = json.dumps(shapes)
    return nir.NIRGraph(graph.nodes, graph.edges, metadata=about)


@dataclass(frozen=True)
class Signal:
    """What edges carry: ``scale`` times the sum of the outputs of ``sources``, each (C, H, W)."""

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    scale: float = 1.0

    def __add__(self, other: "Signal") -> "Signal":
        return Signal(self.sources + other.sources, self.shape)


@dataclass
class GraphBuilder:
    """Builds a graph node by node.

    Attributes:
        names: names of the layers of neurons.
        dt: duration of a timestep, in seconds.
        nodes: nodes by name.
        edges: (source, target), in topological order.
    """

    names: dict[LIF, str]
    dt: float
    nodes: "dict[str, nir.NIRNode]" = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: "nir.NIRNode", x: Signal) -> tuple[str]:
        """Add a node with the input ``x``; returns its name, as the sources of a signal."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in x.sources]
        return (name,)

    def input(self, *shape: int) -> Signal:
        """The input node, for frames (C, H, W)."""
        return Signal(self.add("input", nir.Input(np.array(shape)), Signal((), shape)), shape)

    def weights(
        self,
        name: str,
        x: Signal,
        weight: Tensor,
        bias: Tensor | None,
        *geometry: tuple[int, ...],
    ) -> Signal:
        """A convolution, whose ``geometry`` is stride, padding and dilation."""
        scaled = (weight.double() * x.scale).float().numpy()
        offsets = (weight.new_zeros(len(weight)) if bias is None else bias).float().numpy()
        node = nir.Conv2d(x.shape[1:], scaled, *geometry, 1, offsets)
        return Signal(self.add(name, node, x), tuple(node.output_type["output"].tolist()))

    def convolution(self, name: str, x: Signal, module: nn.Module) -> Signal:
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
        assert not isinstance(conv.padding, str)
        return self.weights(name, x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)

    def linear(self, name: str, x: Signal, linear: nn.Linear) -> Signal:
        """A linear layer of the flattened input, as a convolution with one position.

        NIR infers shapes for square kernels only, so the kernel is a square that covers the input, padded with zeros.
        """
        channels, height, width = x.shape
        side = max(height, width)
        top = (side - height + 1) // 2
        left = (side - width + 1) // 2
        weight = linear.weight.new_zeros(linear.out_features, channels, side, side)
        weight[:, :, top : top + height, left : left + width] = linear.weight.unflatten(1, x.shape)
        # The stride prevents a second position if the padding has a surplus row or column.
        return self.weights(name, x, weight, linear.bias, (2, 2), (top, left), (1, 1))

    def neurons(self, lif: LIF, current: Signal) -> Signal:
        """A layer of neurons.

        Raises:
            ConfigError: NIR cannot represent the neurons.
        """
        name = self.names[lif]
        config = lif.config
        refused = other_than_lif(lif)
        threshold, sign = lif.firing()
        if (config.reset, config.init_potential) != ("hard", "zero"):
            refused = f"neurons of --reset {config.reset} and --init-potential {config.init_potential}"
        elif sign is not None and (sign < 0).any():
            refused = "MPBN with a negative weight, whose neurons fire below a threshold"
        if refused is not None:
            raise ConfigError(
                f"NIR: {name}: found {refused}, expected LIF with a hard reset that starts at 0 and fires above its threshold",
                "Use --format onnx or safetensors.",
            )
        beta = over_channels(lif.beta.detach().double(), 2)
        tau = (self.dt / (1 - beta)).float().numpy()
        scaled = over_channels(torch.as_tensor(threshold, dtype=torch.float64), 2).numpy()
        # Computed from the stored tau, so that both have the same rounding. With a gain of 1 - beta, v is u itself.
        if config.input_gain == "1":
            scaled = scaled * (self.dt / tau.astype(np.float64))
        below = np.nextafter(scaled.astype(np.float32), np.float32(-np.inf))
        # tau, r, v_leak, v_threshold, v_reset
        values = [np.full(current.shape, value, np.float32) for value in (tau, 1, 0, below, 0)]
        return Signal(self.add(name, nir.LIF(*values), current), current.shape)

    def average(self, name: str, x: Signal, size: tuple[int, ...]) -> Signal:
        """Average pooling with windows of ``size``: a sum pool; the factor is applied to the next weights."""
        node = nir.SumPool2d(np.array(size), np.array(size), np.zeros(2, int))
        channels, height, width = x.shape
        rows, columns = size
        return Signal(self.add(name, node, x), (channels, height // rows, width // columns), x.scale / prod(size))

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
        nothing = self.weights(name, first, zeros, None, (1, 1), tuple(padding.tolist()), tuple(dilation.tolist()))
        return Signal(x.sources + nothing.sources, x.shape, x.scale)


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
def _modules(modules: nn.ModuleList, x: Signal, builder: GraphBuilder) -> Signal:
    for module in modules:
        x = convert(module, x, builder)
    return x


@convert.register
def _vggsnn(model: VGGSNN, x: Signal, builder: GraphBuilder) -> Signal:
    return builder.linear("classifier", convert(model.features, x, builder), model.classifier)


@convert.register
def _mlp(model: MLP, x: Signal, builder: GraphBuilder) -> Signal:
    flat = builder.input(prod(x.shape), 1, 1)
    return builder.linear("classifier", convert(model.hidden, flat, builder), model.classifier)


@convert.register
def _resnet(model: ResNet, x: Signal, builder: GraphBuilder) -> Signal:
    x = convert(model.stages, _named("stem", model.stem, x, builder), builder)
    if isinstance(model, MsResNet):
        x = builder.neurons(model.lif, x)
    x = builder.average("pool", x, x.shape[1:])
    if isinstance(model, ResNet19):
        if isinstance(model.hidden, SpikingConv):
            x = convert(model.hidden, x, builder)
        else:
            x = builder.neurons(model.hidden_lif, builder.linear("hidden.synapse", x, model.hidden))
    return builder.linear("classifier", x, model.classifier)


@convert.register
def _spiking_conv(module: SpikingConv, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    if isinstance(module, MaxPooledConv):
        raise ConfigError(f"NIR: {name}: found max pooling, for which NIR has no nodes", OTHERS)
    spikes = builder.neurons(module.lif, builder.convolution(f"{name}.synapse", x, module.current))
    if module.pool is None:
        return spikes
    side = module.pool.kernel_size
    assert isinstance(side, int)
    return builder.average(f"{name}.pool", spikes, (side, side))


@convert.register
def _add_block(module: AddBlock, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif]
    current = builder.convolution(f"{name}.synapse", convert(module.first, x, builder), module.second)
    return builder.neurons(module.lif, current + _shortcut(name, module, current, x, builder))


@convert.register
def _plain_block(module: PlainBlock, x: Signal, builder: GraphBuilder) -> Signal:
    return convert(module.second, convert(module.first, x, builder), builder)


@convert.register
def _sew_block(module: SewBlock, x: Signal, builder: GraphBuilder) -> Signal:
    spikes = _plain_block(module, x, builder)
    return spikes + _shortcut(builder.names[module.second.lif], module, spikes, x, builder)


@convert.register
def _ms_block(module: MsBlock, x: Signal, builder: GraphBuilder) -> Signal:
    name = builder.names[module.lif].removesuffix(".lif1")
    spikes = convert(module.first, builder.neurons(module.lif, x), builder)
    current = builder.convolution(f"{name}.residual", spikes, module.second)
    return _shortcut(name, module, current, x, builder) + current  # in the order in which torch adds them


def _shortcut(name: str, block: AddBlock | SewBlock | MsBlock, branch: Signal, x: Signal, builder: GraphBuilder) -> Signal:
    """``x`` through the shortcut of a block, of which ``branch`` is the other branch."""
    if isinstance(block.shortcut, nn.Identity):
        return x
    return _named(f"{name}.shortcut", block.shortcut, builder.after(f"{name}.order", branch, x), builder)


def _named(name: str, module: nn.Module, x: Signal, builder: GraphBuilder) -> Signal:
    """As :func:`convert`; a convolution without neurons, which have a name, gets ``name``."""
    if isinstance(module, ConvNorm):
        return builder.convolution(name, x, module)
    return convert(module, x, builder)


class Interpreter(Runner):
    """Runs the graph node by node, each node over all timesteps, with forward Euler steps of dt.

    nirtorch is no substitute: it makes Python code of the names in the file, which anybody may have
    written, and does not end where edges form a circle.
    """

    def __init__(self, graph: "nir.NIRGraph", config: Record, path: Path):
        super().__init__(config)
        self.path, self.nodes, self.dt = path, graph.nodes, float(graph.metadata["dt"])
        for name, node in self.nodes.items():
            for key, value in vars(node).items():
                if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                    raise damaged(f"{key} of {name}", "NaN or infinity", "finite numbers")
        # Shapes of the layers of neurons.
        self.layers = schema.decode(graph.metadata["layers"], dict[str, list[int]], f"{path}: layers", CheckpointError)
        self.sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.sources[target].append(source)
        self.order = list(TopologicalSorter(self.sources).static_order())

    @torch.no_grad()
    def run(self, x: Tensor) -> Output:
        """Run frames (T, B, C, H, W), or images (B, C, H, W) presented T times.

        Raises:
            CheckpointError: the graph cannot be run with them.
        """
        with foreign(self.path, "a graph that can be run", hint=AGAIN, kind=CheckpointError):
            return self._run(x.expand(self.T, *x.shape) if x.dim() == 4 else x)

    def _run(self, x: Tensor) -> Output:
        steps = x.shape[:2]
        outputs = {"input": x.reshape(*steps, *self.nodes["input"].output_type["output"])}
        spikes = {}
        last_reader = {source: name for name in self.order for source in self.sources[name]}
        for name in self.order:
            node = self.nodes[name]
            sources = self.sources[name]
            if sources:
                outputs[name] = execute(node, sum(outputs[source] for source in sources), self.dt)  # type: ignore[arg-type]
            if isinstance(node, nir.LIF):
                spikes[name] = outputs[name].reshape(*steps, *self.layers[name])
            for source in sources:
                if last_reader[source] == name:
                    del outputs[source]
        return Output(outputs["output"].flatten(2), spikes)


def execute(node: "nir.NIRNode", x: Tensor, dt: float) -> Tensor:
    """The output (T, B, ...) of a node for the input x (T, B, ...).

    Raises:
        Damaged: the node is of a type that lsg does not write.
    """
    if isinstance(node, nir.Output):
        return x
    if isinstance(node, nir.LIF):
        return _fire(node, x, dt)
    if isinstance(node, nir.Conv2d):
        stride, padding, dilation = (pair.tolist() for pair in (node.stride, node.padding, node.dilation))
        weight, bias = map(torch.from_numpy, (node.weight, node.bias))
        out = F.conv2d(x.flatten(0, 1), weight, bias, stride, padding, dilation, int(node.groups))
    elif isinstance(node, nir.SumPool2d):
        size, stride, padding = (pair.tolist() for pair in (node.kernel_size, node.stride, node.padding))
        out = F.avg_pool2d(x.flatten(0, 1), size, stride, padding, divisor_override=1)
    else:
        raise Damaged(f"found a node {type(node).__name__}, expected one written by lsg")
    return out.unflatten(0, x.shape[:2])


def _fire(node: "nir.LIF", x: Tensor, dt: float) -> Tensor:
    tau, r, leak, threshold, reset = map(torch.from_numpy, (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset))
    gain = (dt / tau.double()).to(tau.dtype)
    v = leak.expand(x.shape[1:])
    spikes = []
    for current in x:
        v = v + gain * (leak - v + r * current)
        fired = v > threshold
        v = torch.where(fired, reset, v)
        spikes.append(fired.to(x.dtype))
    return torch.stack(spikes)
