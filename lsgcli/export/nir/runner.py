"""Interpreter of a NIR graph, with forward Euler steps of dt."""

import json
from functools import singledispatch
from graphlib import TopologicalSorter
from math import prod
from pathlib import Path

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export import Output, Runner, read_metadata


class GraphRunner(Runner):
    """Runs the graph node by node, each over all timesteps.

    Raises:
        CheckpointError: the file is not a NIR graph written by lsg.
    """

    def __init__(self, path: Path):
        try:
            self.graph = nir.read(path)
        except (OSError, KeyError, ValueError, TypeError, AssertionError) as error:  # raised by h5py and nir for other files
            raise CheckpointError(
                f"{path}: cannot be read as a NIR graph: {error}", hint="Copy or export the file again."
            ) from error
        about = self.graph.metadata
        super().__init__(read_metadata(about, path))
        if (list(self.graph.inputs), list(self.graph.outputs)) != (["input"], ["output"]):
            found = ", ".join([*self.graph.inputs, *self.graph.outputs])
            raise CheckpointError(
                f"{path}: found {found}, expected one input and one output", hint="Export the checkpoint again."
            )
        self.dt = float(about["dt"])
        self.layers: dict[str, list[int]] = json.loads(about["layers"])
        self.sources: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, target in self.graph.edges:
            self.sources[target].append(source)
        self.order = list(TopologicalSorter(self.sources).static_order())

    @torch.no_grad()
    def run(self, x: Tensor) -> Output:
        """Run frames (T, B, C, H, W), or images (B, C, H, W) presented T times."""
        if x.dim() == 4:
            x = x.expand(self.T, *x.shape)
        shape = self.graph.nodes["input"].output_type["output"].tolist()
        if x.dim() != 5 or prod(x.shape[2:]) != prod(shape):
            raise ConfigError(f"input: found {tuple(x.shape)}, expected (T, B, C, H, W) with C, H, W = {tuple(shape)}")
        outputs = {"input": x.unflatten(2, (-1,)).reshape(*x.shape[:2], *shape)}
        spikes = {}
        readers = {name: sum(name in sources for sources in self.sources.values()) for name in self.sources}
        for name in self.order:
            inputs = [outputs[source] for source in self.sources[name]]
            if inputs:
                outputs[name] = execute(self.graph.nodes[name], sum(inputs[1:], inputs[0]), self.dt)
            if name in self.layers:
                spikes[name] = outputs[name].reshape(*x.shape[:2], *self.layers[name])
            for source in self.sources[name]:
                readers[source] -= 1
                if not readers[source]:
                    del outputs[source]
        return Output(outputs["output"].flatten(2), spikes)


@singledispatch
def execute(node: nir.NIRNode, x: Tensor, dt: float) -> Tensor:
    """The output (T, B, ...) of a node for the input x (T, B, ...)."""
    raise CheckpointError(
        f"found a node {type(node).__name__}, expected one written by lsg", hint="Export the checkpoint again."
    )


@execute.register
def _output(node: nir.Output, x: Tensor, dt: float) -> Tensor:
    return x


@execute.register
def _convolution(node: nir.Conv2d, x: Tensor, dt: float) -> Tensor:
    weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    stride, padding, dilation = (_pair(pair) for pair in (node.stride, node.padding, node.dilation))
    z = functional.conv2d(x.flatten(0, 1), weight, bias, stride, padding, dilation, int(node.groups))
    return z.unflatten(0, x.shape[:2])


@execute.register
def _sum(node: nir.SumPool2d, x: Tensor, dt: float) -> Tensor:
    sums = functional.avg_pool2d(
        x.flatten(0, 1), _pair(node.kernel_size), _pair(node.stride), _pair(node.padding), divisor_override=1
    )
    return sums.unflatten(0, x.shape[:2])


@execute.register
def _neurons(node: nir.LIF, x: Tensor, dt: float) -> Tensor:
    tau, r, leak, threshold, reset = (
        torch.from_numpy(value) for value in (node.tau, node.r, node.v_leak, node.v_threshold, node.v_reset)
    )
    gain = (dt / tau.double()).to(tau.dtype)
    v, spikes = leak.expand(x.shape[1:]), []
    for current in x:
        v = v + gain * (leak - v + r * current)
        fired = v > threshold
        v = torch.where(fired, reset, v)
        spikes.append(fired.to(x.dtype))
    return torch.stack(spikes)


def _pair(value: np.ndarray | tuple[int, int]) -> tuple[int, int]:
    first, second = (int(one) for one in value)
    return first, second
