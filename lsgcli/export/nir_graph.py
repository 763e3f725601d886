"""Nodes of a NIR graph: convolutions, sums, and neurons scaled so that simulators agree; :mod:`lsgcli.export.nir` has the equations."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.export.graphs import other_than_lif
from lsgcli.neurons import LIF
from lsgcli.neurons.step import over_channels

try:
    import nir
except ImportError:
    nir = None  # type: ignore[assignment]  # reported by NIR.check


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
        nodes: nodes by name.
        edges: (source, target), in topological order.
    """

    names: dict[LIF, str]
    dt: float
    nodes: "dict[str, nir.NIRNode]" = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: "nir.NIRNode", *inputs: Signal) -> None:
        """Add a node whose input is the sum of ``inputs``."""
        self.nodes[name] = node
        self.edges += [(source, name) for signal in inputs for source in signal.sources]

    def input(self, channels: int, height: int, width: int) -> Signal:
        """The input node, for frames."""
        self.add("input", nir.Input(np.array((channels, height, width))))
        return Signal(("input",), (channels, height, width))

    def weights(
        self,
        name: str,
        x: Signal,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
    ) -> Signal:
        """A convolution; arguments as for :func:`torch.nn.functional.conv2d`."""
        scaled = (weight.double() * x.scale).float()
        plain = np.zeros(len(weight), np.float32) if bias is None else bias.float().numpy()
        node = nir.Conv2d(x.shape[1:], scaled.numpy(), tuple(stride), tuple(padding), tuple(dilation), 1, plain)
        self.add(name, node, x)
        channels, height, width = (int(n) for n in node.output_type["output"])
        return Signal((name,), (channels, height, width))

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
        return self.weights(name, x, weight, linear.bias, stride=(2, 2), padding=(top, left))

    def neurons(self, lif: LIF, *currents: Signal) -> Signal:
        """A layer of neurons whose input is the sum of ``currents``.

        Raises:
            ConfigError: NIR cannot represent the neurons.
        """
        name = self.names[lif]
        shape = currents[0].shape
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
        beta = over_channels(lif.beta.detach().double(), len(shape) - 1)
        tau = (self.dt / (1 - beta)).float().numpy()
        v_th = over_channels(torch.as_tensor(threshold, dtype=torch.float64), len(shape) - 1).numpy()
        # Computed from the stored tau, so that both have the same rounding. With a gain of 1 - beta, v is u itself.
        scaled = v_th * (self.dt / tau.astype(np.float64) if lif.config.input_gain == "1" else np.ones_like(tau))
        below = np.nextafter(scaled.astype(np.float32), np.float32(-np.inf))
        zeros = np.zeros_like(tau)
        ones = np.ones_like(tau)
        values = {"tau": tau, "r": ones, "v_leak": zeros, "v_threshold": below, "v_reset": zeros}
        self.add(name, nir.LIF(**{key: np.broadcast_to(value, shape).copy() for key, value in values.items()}), *currents)
        return Signal((name,), shape)

    def average(self, name: str, x: Signal, size: Any) -> Signal:
        """Average pooling with windows of ``size`` (int or pair): a sum pool; the factor is applied to the next weights."""
        window = np.broadcast_to(size, 2).copy()
        self.add(name, nir.SumPool2d(kernel_size=window, stride=window, padding=np.zeros(2, int)), x)
        channels, height, width = x.shape
        rows, columns = window.tolist()
        return Signal((name,), (channels, height // rows, width // columns), x.scale / (rows * columns))

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
