"""Runs a NIR graph that lsg wrote, in torch, to verify the file."""

from graphlib import TopologicalSorter
from pathlib import Path

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.data.guard import Damaged, damaged, foreign
from lsgcli.errors import CheckpointError
from lsgcli.export.base import AGAIN
from lsgcli.export.runners import Output, Runner
from lsgcli.system import schema
from lsgcli.system.schema import Record


class Interpreter(Runner):
    """Runs the graph node by node, each node over all timesteps, with forward Euler steps of dt."""

    def __init__(self, graph: nir.NIRGraph, config: Record, path: Path):
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


def execute(node: nir.NIRNode, x: Tensor, dt: float) -> Tensor:
    """The output (T, B, ...) of a node for the input x (T, B, ...).

    Raises:
        Damaged: the node is of a type that lsg does not write.
    """
    if isinstance(node, nir.Output):
        return x
    if isinstance(node, nir.LIF):
        return _fire(node, x, dt)
    if isinstance(node, nir.Conv2d):
        stride, padding, dilation = (tuple(map(int, pair)) for pair in (node.stride, node.padding, node.dilation))
        weight = torch.from_numpy(node.weight)
        bias = torch.from_numpy(node.bias)
        out = F.conv2d(x.flatten(0, 1), weight, bias, stride, padding, dilation, int(node.groups))
    elif isinstance(node, nir.SumPool2d):
        size, stride, padding = (tuple(map(int, pair)) for pair in (node.kernel_size, node.stride, node.padding))
        out = F.avg_pool2d(x.flatten(0, 1), size, stride, padding, divisor_override=1)
    else:
        raise Damaged(f"found a node {type(node).__name__}, expected one written by lsg")
    return out.unflatten(0, x.shape[:2])


def _fire(node: nir.LIF, x: Tensor, dt: float) -> Tensor:
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
