"""Feed-forward networks of other programs: a chain of layers, described in the specification and read from a NIR file."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec, SpikingLayer, SpikingNet
from lsgcli.models.convolution import Conv2d
from lsgcli.models.layers import at_each_step
from lsgcli.registry import register
from lsgcli.system import schema

Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Pair = tuple[Count, Count]  # height, width
Padding = tuple[Annotated[int, Meta(ge=0, le=1 << 20)], Annotated[int, Meta(ge=0, le=1 << 20)]]
Name = Annotated[str, Meta(pattern=r"^(?!(input|output)$)\w[\w.:-]{0,63}$")]  # of a node


class Convolution(msgspec.Struct, tag_field="kind", tag="conv"):
    """A convolution with bias, to ``out`` channels."""

    name: Name
    out: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1


class Linear(msgspec.Struct, tag_field="kind", tag="linear"):
    """A linear layer with bias, of the flattened input, to ``out`` features."""

    name: Name
    out: Count


class Pool(msgspec.Struct, tag_field="kind", tag="pool"):
    """Average pooling, or the sum over each window; padded zeros count."""

    name: Name
    kernel: Pair
    stride: Pair
    padding: Padding
    average: bool


class Neurons(msgspec.Struct, tag_field="kind", tag="neurons"):
    """LIF neurons with hard reset. The decay is a weight, one of the layer or of each channel."""

    name: Name
    threshold: float
    input_gain: Literal["1", "1-beta"]
    decay_per: Literal["layer", "channel"]


Layer = Convolution | Linear | Pool | Neurons


class Graph(msgspec.Struct):
    """A chain of layers.

    Attributes:
        input: (C, H, W) of the input; (features, 1, 1) of a network of vectors, which receives images flattened.
        layers: in order; neurons follow at least one convolution or linear layer.
    """

    input: tuple[Count, Count, Count]
    layers: list[Layer]


@register("arch", "nir")
class GraphNet(SpikingNet):
    """A network that another program wrote as a NIR graph; given by ``--init-from FILE.nir``, with its thresholds and decays.

    If it ends in neurons, their spikes are the logits, and the mean over time is their rate. It has no normalisation.

    Source: Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15, 2024.

    Raises:
        ConfigError: the specification has no graph, or its input has another height or width.
    """

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 2, "input_size": 16}

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        if spec.graph is None:
            raise ConfigError("arch nir: found no graph, expected the network of a file", hint="Give it: --init-from FILE.nir")
        schema.decode(spec.graph, Graph, "graph", ConfigError)
        graph = msgspec.json.decode(spec.graph, type=Graph)
        if graph.input[1:] not in ((1, 1), (spec.height, spec.input_size)):
            raise ConfigError(
                f"size: found an input of {spec.height} x {spec.input_size}, expected {graph.input[1]} x {graph.input[2]}, as in the graph",
                hint=f"Use --size {graph.input[2]}.",
            )
        self.graph = graph
        shape = (spec.in_channels, spec.height, spec.input_size)
        if self.is_flat:
            shape = (spec.in_channels * spec.height * spec.input_size, 1, 1)
        synapses = [i for i, layer in enumerate(graph.layers) if isinstance(layer, Convolution | Linear)]
        if not synapses or not any(isinstance(layer, Neurons) for layer in graph.layers[synapses[0] :]):
            raise ConfigError("graph: found no neurons after a convolution or linear layer, expected some")
        graph.layers[synapses[-1]].out = spec.num_classes  # type: ignore[union-attr]
        self.layers = nn.ModuleList()
        for layer in graph.layers:
            module, shape = self._module(layer, shape)
            self.layers.append(module)
        self.last = synapses[-1]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def classifier(self) -> nn.Linear | Conv2d:  # type: ignore[override]
        """The last convolution or linear layer."""
        return self.layers[self.last]  # type: ignore[return-value]

    @property
    def is_flat(self) -> bool:
        """Whether the input is flattened."""
        return self.graph.input[1:] == (1, 1)

    def _module(self, layer: Layer, shape: tuple[int, int, int]) -> tuple[nn.Module, tuple[int, int, int]]:
        """The module of a layer for an input (C, H, W), and the shape of its output."""
        channels, height, width = shape
        if isinstance(layer, Neurons):
            of_file: dict[str, Any] = {"threshold": layer.threshold, "input_gain": layer.input_gain, "reset": "hard"}
            if layer.decay_per == "channel":
                of_file["decay_per"] = "channel"
            return self.spec.lif(channels, **of_file), shape
        if isinstance(layer, Linear):
            return nn.Linear(channels * height * width, layer.out), (layer.out, 1, 1)
        dilation = layer.dilation if isinstance(layer, Convolution) else (1, 1)
        reach = [d * (k - 1) for d, k in zip(dilation, layer.kernel, strict=True)]
        most = reach if isinstance(layer, Convolution) else [k // 2 for k in layer.kernel]
        sizes = [
            (size + 2 * p - r - 1) // s + 1
            for size, p, r, s in zip((height, width), layer.padding, reach, layer.stride, strict=True)
        ]
        if min(sizes) < 1 or any(p > m for p, m in zip(layer.padding, most, strict=True)):
            raise ConfigError(
                f"{layer.name}: found a kernel {layer.kernel} with padding {layer.padding} for an input of {height} x {width}, "
                f"expected at most the input with padding, and padding of at most {tuple(most)}"
            )
        rows, columns = sizes
        if isinstance(layer, Pool):
            divisor = None if layer.average else 1
            return nn.AvgPool2d(layer.kernel, layer.stride, layer.padding, divisor_override=divisor), (channels, rows, columns)
        if channels % layer.groups or layer.out % layer.groups:
            raise ConfigError(f"{layer.name}: found {layer.groups} groups, expected a divisor of {channels} and {layer.out}")
        geometry = (layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups)
        return Conv2d(channels, layer.out, *geometry), (layer.out, rows, columns)

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        x = x.flatten(2)[..., None, None] if self.is_flat else x
        for description, layer in self.described():
            if layer is self.classifier:
                x = self.dropout(x)
            if isinstance(description, Neurons):
                x = self.run_block(layer, x.expand(T, *x.shape[1:]))
            elif isinstance(description, Linear):
                x = layer(x.flatten(2))
            else:
                x = at_each_step(layer, x)
        return x.flatten(2)

    def spiking_layers(self) -> list[SpikingLayer]:
        """Named as the nodes of the file."""
        layers: list[SpikingLayer] = []
        synapse: Any = None
        for description, module in self.described():
            if isinstance(description, Convolution | Linear):
                synapse = module
            elif isinstance(description, Neurons):
                layers.append(SpikingLayer(description.name, module, synapse, None))
        return layers

    def described(self) -> Iterator[tuple[Layer, Any]]:
        """Description and module of each layer."""
        return zip(self.graph.layers, self.layers, strict=True)
