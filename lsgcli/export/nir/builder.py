"""The nodes of a NIR graph, in a form that gives equal spikes in all simulators tested.

NIR's neuron is  tau dv/dt = (v_leak - v) + r I;  it fires if v > v_threshold, after which v = v_reset. Simulators use forward Euler
steps, and some ignore r, so r = 1. With v_leak = v_reset = 0 and tau = dt / (1 - beta) an Euler step is

    v[t] = beta v[t-1] + (1 - beta) I[t]

which is (1 - beta) u[t]. Therefore v_threshold = (1 - beta) v_th, and weights and spikes on shortcuts need no scaling. NIR's neuron fires
only above the threshold, lsg's also at it, so the stored threshold is the next smaller float32.

Average pooling is SumPool2d with 1/k^2 in the following weights, because simulators lack AvgPool2d. A linear layer is a convolution of
the size of its input, because simulators misinterpret the batch dimension of Flatten and Linear. A node with several incoming edges
receives their sum.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.neurons.neuron import over_channels

SCALING = "tau = dt / (1 - beta), r = 1, v_leak = v_reset = 0, v_threshold = (1 - beta) v_th; v = (1 - beta) u"


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
        names: name of each layer of neurons.
        dt: duration of a timestep, in seconds.
        nodes: nodes by name.
        edges: (source, target), in topological order.
    """

    names: dict[LIF, str]
    dt: float
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: nir.NIRNode, *inputs: Signal) -> None:
        """Add a node whose input is the sum of ``inputs``."""
        self.nodes[name] = node
        self.edges += [(source, name) for signal in inputs for source in signal.sources]

    def input(self, shape: tuple[int, int, int]) -> Signal:
        """The input node, for frames."""
        self.add("input", nir.Input(np.array(shape)))
        return Signal(("input",), shape)

    def convolution(self, name: str, x: Signal, conv: nn.Conv2d) -> Signal:
        """A convolution with a bias."""
        return self.weights(
            name,
            x,
            conv.weight,
            conv.bias,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
        )

    def linear(self, name: str, x: Signal, linear: nn.Linear) -> Signal:
        """A linear layer of the flattened input, as a convolution with one position.

        NIR infers shapes for square kernels only, so the kernel is a square that covers the input, padded with zeros.
        """
        _, height, width = x.shape
        side = max(height, width)
        top, left = (side - height + 1) // 2, (side - width + 1) // 2
        weight = linear.weight.new_zeros(linear.out_features, x.shape[0], side, side)
        weight[:, :, top : top + height, left : left + width] = linear.weight.unflatten(1, x.shape)
        # The stride prevents a second position if the padding has a surplus row or column.
        return self.weights(name, x, weight, linear.bias, stride=(2, 2), padding=(top, left))

    def weights(
        self,
        name: str,
        x: Signal,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
    ) -> Signal:
        """A convolution; arguments as for :func:`torch.nn.functional.conv2d`."""
        scaled = (weight.double() * x.scale).float().numpy()
        plain = np.zeros(len(weight), np.float32) if bias is None else bias.float().numpy()
        node = nir.Conv2d(x.shape[1:], scaled, tuple(stride), tuple(padding), tuple(dilation), groups, plain)
        self.add(name, node, x)
        channels, height, width = (int(n) for n in node.output_type["output"])
        return Signal((name,), (channels, height, width))

    def neurons(self, lif: LIF, *currents: Signal) -> Signal:
        """A layer of neurons whose input is the sum of ``currents``."""
        name = self.names[lif]
        if type(lif) is not LIF:
            raise ConfigError(
                f"NIR: {name}: found neurons of class {type(lif).__name__}, expected {LIF.__name__}",
                hint="NIR's LIF has a hard reset without delay; soft reset and other neurons cannot be represented.",
            )
        shape = currents[0].shape
        beta = over_channels(lif.beta.detach().double(), len(shape) - 1)
        tau = (self.dt / (1 - beta)).float().numpy()
        scaled = lif.threshold * self.dt / tau.astype(np.float64)  # from the stored tau, so that both have the same rounding
        threshold = np.nextafter(scaled.astype(np.float32), np.float32(0))
        zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self.add(
            name,
            nir.LIF(
                tau=np.broadcast_to(tau, shape).copy(),
                r=one,
                v_leak=zero,
                v_threshold=np.broadcast_to(threshold, shape).copy(),
                v_reset=zero,
            ),
            *currents,
        )
        return Signal((name,), shape)

    def average(self, name: str, x: Signal, size: tuple[int, int]) -> Signal:
        """Average pooling over ``size``: a sum pool; the factor is applied to the next weights."""
        channels, height, width = x.shape
        window = np.array(size)
        self.add(name, nir.SumPool2d(kernel_size=window, stride=window, padding=np.zeros(2, int)), x)
        return Signal((name,), (channels, height // size[0], width // size[1]), x.scale / prod(size))

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
