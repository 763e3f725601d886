"""Runs a NIR graph that lsg wrote, in torch, to verify the file."""

from graphlib import TopologicalSorter
from math import prod
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.runners import Output, Runner
from lsgcli.system import schema


class Interpreter(Runner):
    """Runs the graph node by node, each node over all timesteps, with forward Euler steps of dt."""

    def __init__(self, graph: nir.NIRGraph, config: dict[str, Any], path: Path):
        super().__init__(config)
        self.nodes, self.dt = graph.nodes, float(graph.metadata["dt"])
        stated = schema.decode(graph.metadata["layers"], dict[str, list[int]], f"{path}: layers", CheckpointError)
        self.layers: dict[str, list[int]] = stated

        def check(what: str, found: Any, expected: Any) -> None:
            if found != expected:
                raise CheckpointError(f"{path}: {what}: found {found}, expected {expected}", "Export the checkpoint again.")

        check("inputs and outputs", [*graph.inputs, *graph.outputs], ["input", "output"])
        neurons = {name: node.v_threshold.size for name, node in self.nodes.items() if isinstance(node, nir.LIF)}
        check("layers with neurons", sorted(stated), sorted(neurons))
        for name, node in self.nodes.items():
            if name in neurons:
                check(f"neurons of {name}", prod(stated[name]), neurons[name])
            for key, value in vars(node).items():
                if isinstance(value, np.ndarray):
                    check(f"{key} of {name}", "finite numbers" if np.isfinite(value).all() else "others", "finite numbers")
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


def execute(node: nir.NIRNode, x: Tensor, dt: float) -> Tensor:
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
            f"found a node {type(node).__name__}, expected one written by lsg", "Export the checkpoint again."
        )
    return out.unflatten(0, x.shape[:2])


def _fire(node: nir.LIF, x: Tensor, dt: float) -> Tensor:
    tau, r, leak, threshold, reset = map(torch.from_numpy, (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset))
    gain = (dt / tau.double()).to(tau.dtype)
    v, spikes = leak.expand(x.shape[1:]), []
    for current in x:
        v = v + gain * (leak - v + r * current)
        fired = v > threshold
        v = torch.where(fired, reset, v)
        spikes.append(fired.to(x.dtype))
    return torch.stack(spikes)
