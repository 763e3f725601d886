"""Firing rates of layers of neurons."""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lsgcli.analysis.gradflow import layers_of
from lsgcli.analysis.watchers import Adapter
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import SpikingConv


class FiringRates:
    """Firing rate of every layer of neurons, in spikes per neuron and timestep, over all forward passes until :meth:`close`.

    Args:
        model: a network of lsg, or another whose layers ``adapter`` returns.
        adapter: not required for lsg's own neurons.
    """

    def __init__(self, model: nn.Module, adapter: Adapter | None = None):
        self.totals: dict[str, list[float]] = {}  # spikes, and neurons times timesteps
        self.handles: list[RemovableHandle] = []
        if isinstance(model, SpikingNet):  # a hook on the neurons themselves would prevent a backend from fusing them
            for layer in model.spiking_layers():
                self._watch(layer.name, layer.block or layer.lif, layer.lif)
        else:
            for foreign in layers_of(model, adapter):
                self._watch(foreign.name, foreign.module, foreign.module)

    def _watch(self, name: str, module: nn.Module, neurons: nn.Module) -> None:
        """Count the outputs of a module, which are 0, or the unit of its neurons where one fires."""
        height = float(getattr(neurons, "unit", 1.0))
        pooled = 1
        if isinstance(module, SpikingConv) and module.pool is not None:
            pooled = module.pool.kernel_size**2  # type: ignore[operator]
        total = self.totals[name] = [0.0, 0.0]

        def count(module: nn.Module, arguments: Any, output: Any) -> None:
            spikes = output[0] if isinstance(output, tuple | list) else output
            # float32 sums per step are exact, and much faster than float64 sums over the whole tensor.
            fired = float(spikes.sum(tuple(range(1, spikes.dim())), dtype=torch.float32).sum(dtype=torch.float64))
            total[0] += fired / height * (pooled if spikes.is_floating_point() else 1)  # integers are sums, see Bytes
            total[1] += spikes.numel() * pooled

        self.handles.append(module.register_forward_hook(count))

    def close(self) -> dict[str, float]:
        """Remove the hooks and return the rates by layer."""
        for handle in self.handles:
            handle.remove()
        return {name: spikes / max(1.0, n) for name, (spikes, n) in self.totals.items()}
