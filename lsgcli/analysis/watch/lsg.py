"""Layers of lsg's own neurons in a network that trains, through the watchers of gradient flow."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lsgcli.analysis import lif_watchers
from lsgcli.analysis.sums import signal
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.seen import Neurons
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF


def layers_of(network: nn.Module) -> list[lif_watchers.OwnLayer]:
    """All layers of LIF, each with the weights registered before it, in the order of registration."""
    if isinstance(network, SpikingNet):
        return list(lif_watchers.layers(network))  # type: ignore[arg-type]
    found, weight = [], None
    for name, module in network.named_modules():
        own = getattr(module, "weight", None)
        if isinstance(own, nn.Parameter) and own.dim() > 1:
            weight = own
        if isinstance(module, LIF):
            found.append(
                lif_watchers.OwnLayer(
                    name, module, weight if weight is not None else module.b, partial(lif_watchers.present, module)
                )
            )
    return found


class OwnLayers:
    """Watchers of a network's layers of LIF, for one step.

    Args:
        network: before its forward pass.
    """

    def __init__(self, network: nn.Module):
        self.watched = [(layer, layer.watch(full=True)) for layer in layers_of(network)]

    def layers(
        self, name: Callable[[nn.Module], str], built: Mapping[Any, Line | None], shapes: Mapping[Any, tuple[int, ...]]
    ) -> dict[Any, Neurons]:
        """The layers after the backward pass."""
        found = {}
        for layer, watcher in self.watched:
            watcher.end_batch()
            if "n" not in watcher.sums.values:
                continue
            module = layer.module
            weight = layer.weight if isinstance(layer.weight, nn.Parameter) else None
            found[module] = Neurons(
                name(module),
                built.get(module),
                weight,
                threshold=watcher.sums.threshold,
                calls=len(watcher.sums.values["n"]),
                shape=tuple(shapes.get(module, ()))[1:],
                extra=signal(watcher.sums, layer.gamma),
            )
        return found

    def close(self) -> None:
        """Restore the layers."""
        for _, watcher in self.watched:
            watcher.close()
