"""NIR graphs of other programs, as networks of :class:`~lsgcli.models.nir.GraphNet`.

NIR's neurons are tau dv/dt = (v_leak - v) + r I (LIF) and dv/dt = r I (IF); they fire if v > v_threshold, after which v = v_reset. A
forward Euler step of dt gives u[t] = beta u[t-1] + g I[t] with u = v - v_leak, beta = 1 - dt / tau and g = r dt / tau, or beta = 1 and
g = r dt. lsg's neurons fire at their threshold, so theirs is the next larger float32. g is 1 or 1 - beta, or multiplies the weights
before the neurons. norse and sinabs write IF with r = 1 for g = 1.

dt is not part of NIR. It is the number ``dt`` in the metadata of the graph, in seconds, or 1e-4, as in snntorch and spikingjelly.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from lsgcli.config.neuron import NeuronConfig
from lsgcli.data import hdf5
from lsgcli.data.guard import foreign
from lsgcli.errors import CheckpointError, LsgError, require
from lsgcli.models.base import NetworkSpec
from lsgcli.models.nir import Convolution, Graph, GraphNet, Layer, Linear, Neurons, Pool

SUFFIX = ".nir"
OWN = "lsg.export_version"  # in the metadata of graphs that lsg wrote
DT = 1e-4  # seconds
LARGEST_LOGIT = 20.0  # of a decay; its sigmoid is 1 in float32
CHAIN = "a chain of Conv2d, Linear, Affine, LIF, IF, AvgPool2d, SumPool2d and Flatten, from one Input to one Output"


def is_foreign(path: Path) -> bool:
    """Whether a file is a NIR graph of another program; False if it cannot be read, which whoever opens it reports."""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    try:
        with hdf5.opened(path) as file:
            return "node/nodes" in file and f"node/metadata/{OWN}" not in file
    except Exception:  # h5py's errors are not documented
        return False


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration of a network, as in a checkpoint; without classes, settings and data.

    Raises:
        CheckpointError: the file is damaged, or has a node that lsg's networks cannot express.
        ConfigError: the package nir is not installed.
    """
    require(("nir",), "NIR", "nir")
    import nir

    with foreign(path, "a NIR graph", hint="Write the file again.", kind=CheckpointError):
        with hdf5.opened(path):
            graph = nir.read(path, type_check=False)
        try:
            return _converted(graph)
        except LsgError as error:
            raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error


def _converted(graph: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    given = graph.metadata.get("dt", DT)
    dt = float(given.decode() if isinstance(given, bytes) else given)
    if not 0 < dt < math.inf:
        raise CheckpointError(f"metadata: found dt {dt}, expected seconds > 0")
    nodes = list(_chain(graph))
    builder = _Builder(_shape(*nodes[0]), dt)
    for name, node in nodes[1:-1]:
        METHODS[type(node).__name__](builder, name, node)
    channels, height, width = builder.input
    synapses = [layer for layer in builder.layers if isinstance(layer, Convolution | Linear)]
    if not synapses:
        raise CheckpointError(f"found no Conv2d, Linear or Affine, expected {CHAIN}")
    description = Graph(builder.input, builder.layers)
    spec = NetworkSpec(
        arch="nir",
        T=1,
        num_classes=synapses[-1].out,
        in_channels=channels,
        input_size=width,
        input_height=None if height == width else height,
        graph=msgspec.json.encode(description).decode(),
        neuron=NeuronConfig(),
    )
    with torch.device("meta"):  # shapes only
        GraphNet(spec)
    described = dataclasses.asdict(spec)
    config = {"arch": described.pop("arch"), "model": described, "folded": False, "classes": [], "settings": {}, "data": {}}
    return builder.weights, config


def _chain(graph: Any) -> Iterator[tuple[str, Any]]:
    """Name and node, from the input to the output.

    Raises:
        CheckpointError: a node is of an unsupported type, or the graph is not a chain.
    """
    import nir

    into = Counter(target for _, target in graph.edges)
    out_of = Counter(source for source, _ in graph.edges)
    for name, node in graph.nodes.items():
        is_input, is_output = isinstance(node, nir.Input), isinstance(node, nir.Output)
        if not (is_input or is_output) and type(node).__name__ not in METHODS:
            raise CheckpointError(f"{name}: found a node {type(node).__name__}, expected {CHAIN}")
        if (into[name], out_of[name]) != (not is_input, not is_output):
            raise CheckpointError(
                f"{name}: found {into[name]} edges into it and {out_of[name]} out of it, expected {CHAIN}",
                hint="Recurrent connections and branches are not supported.",
            )
    following, seen = dict(graph.edges), [*graph.inputs][:1]
    while seen and seen[-1] in following:
        seen.append(following[seen[-1]])
    if apart := graph.nodes.keys() - {*seen}:
        raise CheckpointError(f"{min(apart)}: found a node apart from the others, expected {CHAIN}")
    return ((name, graph.nodes[name]) for name in seen)


def _shape(name: str, node: Any) -> tuple[int, int, int]:
    """(C, H, W) of the input, of which writers may store a batch axis of 1."""
    found = node.input_type["input"]
    shape = [] if found is None else [int(n) for n in np.ravel(found)]
    sizes = shape[1:] if len(shape) in (2, 4) else shape
    if len(sizes) not in (1, 3) or min(sizes) < 1:
        raise CheckpointError(f"{name}: found an input of shape {tuple(shape)}, expected (C, H, W) or (features,)")
    channels, height, width = (*sizes, 1, 1)[:3]
    return channels, height, width


def _pair(value: Any) -> tuple[int, int]:
    height, width = np.broadcast_to(np.asarray(value), 2).tolist()
    return int(height), int(width)


def _uniform(name: str, what: str, value: np.ndarray) -> float:
    """The value that all neurons have."""
    low, high = float(value.min()), float(value.max())
    if not (math.isfinite(low) and math.isclose(low, high, rel_tol=1e-6, abs_tol=1e-12)):
        raise CheckpointError(f"{name}: found {what} from {low:g} to {high:g}, expected the same finite number for all neurons")
    return float(value.flat[0])


class _Builder:
    """Builds the chain node by node.

    Attributes:
        layers: descriptions so far.
        weights: by name in the network's state.
        synapse: index of the latest convolution or linear layer after which no neurons follow, if any.
    """

    def __init__(self, input: tuple[int, int, int], dt: float):
        self.input, self.dt = input, dt
        self.layers: list[Layer] = []
        self.weights: dict[str, Tensor] = {}
        self.synapse: int | None = None

    def _weighted(self, layer: Layer, weight: Any, bias: Any) -> None:
        self.synapse = len(self.layers)
        self._add(layer, weight=weight, bias=np.zeros(len(weight)) if bias is None else bias)

    def _add(self, layer: Layer, **tensors: np.ndarray) -> None:
        for key, value in tensors.items():
            with np.errstate(over="ignore"):
                stored = np.array(value, np.float32)
            if not np.isfinite(stored).all():
                raise CheckpointError(f"{layer.name}: found a {key} that is not finite, expected finite numbers")
            self.weights[f"layers.{len(self.layers)}.{key}"] = torch.from_numpy(stored)
        self.layers.append(layer)

    def _multiply(self, factor: float) -> None:
        """Multiply the output of the latest weights by a factor."""
        for key in ("weight", "bias"):
            self.weights[f"layers.{self.synapse}.{key}"] *= torch.tensor(factor)

    def conv2d(self, name: str, node: Any) -> None:
        weight = np.asarray(node.weight)
        stride, dilation = _pair(node.stride), _pair(node.dilation)
        if isinstance(node.padding, str | bytes):
            reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            same = node.padding in ("same", b"same")
            if same and (reach[0] % 2 or reach[1] % 2):
                raise CheckpointError(f"{name}: found padding same with an even kernel, expected numbers")
            padding = (reach[0] // 2, reach[1] // 2) if same else (0, 0)
        else:
            padding = _pair(node.padding)
        kernel = (weight.shape[2], weight.shape[3])
        layer = Convolution(name, len(weight), kernel, stride, padding, dilation, int(node.groups))
        self._weighted(layer, weight, node.bias)

    def linear(self, name: str, node: Any) -> None:
        if np.ndim(node.weight) != 2:
            raise CheckpointError(f"{name}: found a weight of shape {np.shape(node.weight)}, expected (out, in)")
        self._weighted(Linear(name, len(node.weight)), node.weight, getattr(node, "bias", None))

    def flatten(self, name: str, node: Any) -> None:
        """Linear layers flatten their input."""
        if int(node.start_dim) != 0 or int(node.end_dim) not in (-1, 2):
            raise CheckpointError(f"{name}: found axes {node.start_dim} to {node.end_dim}, expected all axes: 0 to -1")

    def pool2d(self, name: str, node: Any) -> None:
        kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
        self._add(Pool(name, kernel, stride, padding, average=type(node).__name__ == "AvgPool2d"))

    def lif(self, name: str, node: Any) -> None:
        tau = np.asarray(node.tau, np.float64)
        if not (tau > self.dt * (1 - 1e-6)).all():
            raise CheckpointError(
                f"{name}: found tau {tau.min():g} s, expected at least the timestep dt, {self.dt:g} s",
                hint='Store the timestep of the network in the file: graph.metadata["dt"] = SECONDS before nir.write.',
            )
        self._neurons(name, node, np.asarray(node.v_leak, np.float64), 1 - self.dt / tau, np.asarray(node.r) * self.dt / tau)

    def integrate_and_fire(self, name: str, node: Any) -> None:
        r = np.asarray(node.r, np.float64)
        gain = np.ones_like(r) if (r == 1).all() else r * self.dt
        self._neurons(name, node, np.asarray(node.v_reset, np.float64), np.ones_like(r), gain)

    def _neurons(self, name: str, node: Any, leak: np.ndarray, beta: np.ndarray, gain: np.ndarray) -> None:
        if self.synapse is None:
            raise CheckpointError(f"{name}: found neurons without weights before them, expected a Conv2d, Linear or Affine")
        rest = _uniform(name, "v_reset - v_leak", np.asarray(node.v_reset, np.float64) - leak)
        if rest != 0:
            raise CheckpointError(f"{name}: found v_reset {rest:g} above v_leak, expected them to be equal")
        v_th = np.float32(_uniform(name, "v_threshold - v_leak", np.asarray(node.v_threshold, np.float64) - leak))
        threshold = float(np.nextafter(v_th, np.float32(np.inf)))
        if threshold < 1e-6:
            raise CheckpointError(f"{name}: found v_threshold {v_th:g} above v_leak, expected at least 1e-6")
        if np.allclose(gain, 1, rtol=1e-5, atol=0):
            input_gain: Literal["1", "1-beta"] = "1"
        elif np.allclose(gain, 1 - beta, rtol=1e-5, atol=0):
            input_gain = "1-beta"
        else:
            input_gain = "1"
            self._multiply(_uniform(name, "r dt / tau", gain))
        with np.errstate(divide="ignore"):
            b = np.clip(np.log(beta) - np.log1p(-beta), -LARGEST_LOGIT, LARGEST_LOGIT)
        rows = b.reshape(len(b), -1) if b.ndim else b
        if np.allclose(b, b.flat[0], rtol=0, atol=1e-4):
            per: Literal["layer", "channel"] = "layer"
            b = np.array(b.flat[0])
        elif np.allclose(rows, rows[:, :1], rtol=0, atol=1e-4):
            per, b = "channel", rows[:, 0]
        else:
            raise CheckpointError(f"{name}: found tau that differs within a channel, expected one for each channel or for all")
        self._add(Neurons(name, threshold, input_gain, per), b=b)
        self.synapse = None


METHODS = {
    "Conv2d": _Builder.conv2d,
    "Linear": _Builder.linear,
    "Affine": _Builder.linear,
    "Flatten": _Builder.flatten,
    "AvgPool2d": _Builder.pool2d,
    "SumPool2d": _Builder.pool2d,
    "LIF": _Builder.lif,
    "IF": _Builder.integrate_and_fire,
}
