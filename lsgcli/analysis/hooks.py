"""Layers of neurons of any library, as described by an adapter, and hooks that observe them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.analysis.dynamics import Block, Dynamics, Passage, blocks, laid
from lsgcli.analysis.sums import LayerSums, nonzero
from lsgcli.analysis.watching import Watcher
from lsgcli.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """A layer of neurons.

    Attributes:
        name: name of the layer.
        module: maps the current to spikes, or to a tuple whose first element is the spikes.
        weight: weight of the preceding convolution or linear layer.
        dynamics: returns the current dynamics of the neurons.
        steps: whether the module is called once per timestep, with (B, ...), rather than once per sequence, with (T, B, ...).
        gamma: weight of the tdBN between weight and neurons, if any.
    """

    name: str
    module: nn.Module
    weight: Tensor
    dynamics: Callable[[], Dynamics]
    steps: bool = False
    gamma: Tensor | None = None

    def watch(self, sums: LayerSums, *, full: bool) -> Watcher:
        """Start observing the layer."""
        return HookWatcher(self, sums, full)


@contextmanager
def observing(layers: Sequence[Layer], *, full: bool) -> Iterator[dict[str, Watcher]]:
    """Observe layers while the block runs; yields their watchers, which accumulate the sums, by name."""
    watchers: dict[str, Watcher] = {}
    try:
        for layer in layers:
            watchers[layer.name] = layer.watch(LayerSums(), full=full)
        yield watchers
    finally:
        for watcher in watchers.values():
            watcher.close()


Adapter = Callable[[Any], Sequence[Layer]]  # network -> its layers of neurons, in order from the input


class HookWatcher(Watcher):
    """Observes a module through hooks on its input and output.

    Currents are stored until the batch is finished, and surrogate values during a pass without the recurrence.
    """

    def __init__(self, layer: Layer, sums: LayerSums, full: bool):
        super().__init__(sums, full)
        self.layer = layer
        self.currents: list[Tensor] = []  # of each call
        self.arriving: dict[int, Tensor] = {}  # call -> dL/do, in a pass without the recurrence
        self.heights: Tensor | None = None
        self.handles = [layer.module.register_forward_pre_hook(self._enters), layer.module.register_forward_hook(self._leaves)]

    def finish(self) -> None:
        """Add the batch to the sums.

        Raises:
            ConfigError: the number of calls of the module does not match the adapter's ``steps``.
        """
        calls = len(self.currents)
        if calls == 0 or (calls > 1 and not self.layer.steps):
            expected = "once for each timestep" if self.layer.steps else "once, with the whole sequence"
            raise ConfigError(
                f"layer {self.layer.name}: its module was called {calls} times in a forward pass, expected {expected}",
                hint="Set `steps` in the adapter according to how the network calls its neurons.",
            )
        self.count_forward(self._passage())
        self.currents, self.arriving, self.heights = [], {}, None

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _passage(self) -> Passage:
        return Passage(self.currents if self.layer.steps else self.currents[0], self.layer.dynamics())

    def _enters(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        current, *others = arguments
        call = len(self.currents)
        self.currents.append(current.detach())
        self.T = len(self.currents) if self.layer.steps else len(current)
        if not (self.full and current.requires_grad):
            return None
        current = current.view_as(current)  # excludes gradients of other users of the current
        current.register_hook(lambda grad: self._through(call, grad))
        return (current, *others)

    def _leaves(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        spikes, others = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
        if not (self.full and spikes.requires_grad):
            return output
        call = len(self.currents) - 1
        spikes = spikes.view_as(spikes)  # excludes gradients through the module's own use of the spikes, such as the reset
        spikes.register_hook(lambda grad: self._arrives(call, grad))
        return spikes if others is None else (spikes, *others)

    def _arrives(self, call: int, grad: Tensor) -> None:
        if self.spatial:
            self.arriving[call] = grad

    def _through(self, call: int, grad: Tensor) -> Tensor | None:
        """Observe dL/dI of a call, which is gain * dL/du, or replace it by the gradient without the recurrence."""
        if not self.spatial:
            self.sums.add("du", F.pad(nonzero(grad[None] if self.layer.steps else grad), (call, 0)))
            return None
        if self.heights is None:
            self.heights = self._all_heights()
        if call not in self.arriving:
            return torch.zeros_like(grad)
        height = self.heights[call] if self.layer.steps else self.heights
        return (self.arriving.pop(call) * height).to(grad.dtype)

    @torch.no_grad()
    def _all_heights(self) -> Tensor:
        """gain * h, (T, B, ...)."""
        passage = self._passage()
        first = passage.x[0]
        wide = torch.promote_types(first.dtype, torch.float32)
        heights = torch.empty((len(passage.x), *first.shape), dtype=wide, device=first.device)
        room = laid(heights)

        def write(block: Block) -> None:
            h = passage.p.surrogate(block.u - passage.p.threshold, block.p.width)
            room[:, block.samples, block.rows] = h * passage.p.gain

        list(blocks(passage, write))
        return heights
