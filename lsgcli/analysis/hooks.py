"""Observation of layers of neurons during forward and backward passes; only sums are stored.

An adapter describes the layers of a network. Those of other libraries are observed through hooks on their modules; helpers for
adapters are at the end.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.analysis.dynamics import Dynamics, Passage, blocks, heights, one_thread
from lsgcli.analysis.sums import LayerSums
from lsgcli.errors import ConfigError
from lsgcli.neurons.surrogates import Surrogate

POINTS = 200_001  # sampling points for the area of a surrogate


class Watcher(ABC):
    """Observes one layer and accumulates its sums, until it is closed.

    Args:
        full: accumulate all sums; otherwise only spikes and coverage, as during training.

    Attributes:
        sums: the accumulated sums.
        spatial: while true, backward passes omit the recurrence u[t-1] -> u[t]: dL/du[t] = dL/do[t] * h[t].
        T: number of timesteps of the current batch.
    """

    spatial = False
    T = 0

    def __init__(self, full: bool):
        self.sums, self.full = LayerSums(), full

    @abstractmethod
    def finish(self) -> None:
        """Called after the forward and, with ``full``, backward pass of a batch."""

    @abstractmethod
    def close(self) -> None:
        """Restore the layer."""


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

    def watch(self, *, full: bool) -> Watcher:
        """Start observing the layer."""
        return HookWatcher(self, full)


Adapter = Callable[[Any], Sequence[Layer]]  # network -> its layers of neurons, in order from the input


@contextmanager
def observing(layers: Sequence[Layer], *, full: bool) -> Iterator[dict[str, Watcher]]:
    """Observe layers while the block runs; yields their watchers, which accumulate the sums, by name."""
    watchers: dict[str, Watcher] = {}
    try:
        for layer in layers:
            watchers[layer.name] = layer.watch(full=full)
        yield watchers
    finally:
        for watcher in watchers.values():
            watcher.close()


class HookWatcher(Watcher):
    """Observes a module through hooks on its input and output.

    Currents are stored until the batch is finished, and surrogate values during a pass without the recurrence.
    """

    def __init__(self, layer: Layer, full: bool):
        super().__init__(full)
        self.layer = layer
        self.currents: list[Tensor] = []  # of each call
        self.arrived: dict[int, Tensor] = {}  # call -> dL/do, in a pass without the recurrence
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
        passage = self._passage()
        self.sums.begin(passage)
        with one_thread():
            for block in blocks(passage):
                self.sums.count(block, full=self.full)
        self.currents, self.arrived, self.heights = [], {}, None

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
            self.arrived[call] = grad
        else:
            self.sums.add_gradient(grad[None] if self.layer.steps else grad, call)

    def _through(self, call: int, grad: Tensor) -> Tensor | None:
        """Observe dL/dI of a call, which is gain * dL/du, or replace it by the gradient without the recurrence."""
        if not self.spatial:
            self.sums.add_nonzero(grad[None] if self.layer.steps else grad, call)
            return None
        if self.heights is None:
            self.heights = heights(self._passage())
        if call not in self.arrived:
            return torch.zeros_like(grad)
        height = self.heights[call] if self.layer.steps else self.heights
        return (self.arrived.pop(call) * height).to(grad.dtype)


class Pair(NamedTuple):
    """A layer of neurons and the last linear layer or convolution registered before it.

    Attributes:
        name: name of the neurons, as in ``named_modules``.
        neurons: the module.
        weight: weight of the linear layer or convolution.
    """

    name: str
    neurons: Any
    weight: Tensor


def pairs(net: nn.Module, neurons: type[nn.Module]) -> Iterator[Pair]:
    """Pair the neurons of a class with their weights, in a network whose modules are registered in execution order.

    Raises:
        ConfigError: two modules of neurons follow the same weights, which another order explains.
    """
    synapse: nn.Linear | nn.modules.conv._ConvNd | None = None
    paired = ""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            synapse, paired = module, ""
        if isinstance(module, neurons) and synapse is not None:
            if paired:
                raise ConfigError(
                    f"inspect: found the neurons {paired} and {name} registered after the same weights, expected weights between them",
                    hint="Register modules in the order in which they run, or give an adapter that returns each layer with its weight.",
                )
            paired = name
            yield Pair(name, module, synapse.weight)


def height_of(fire: Callable[[Tensor], Tensor]) -> Surrogate:
    """The surrogate h(x, width) of another library's firing function of x = u - v_th, from autograd; ``width`` is ignored."""

    def h(x: Tensor, width: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(fire(x).sum(), x)
        return grad

    return h


def equivalent_width(h: Surrogate) -> Tensor:
    """Area over peak of a surrogate with built-in width, in units of u, with a relative error of about 1e-5.

    Integrates over x = tan(angle), so that slowly decaying tails are included completely.
    """
    angle = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS * math.pi - math.pi / 2
    x, one = angle.tan(), torch.ones((), dtype=torch.float64)
    values = h(x, one)
    area = (values * (1 + x.square())).mean() * math.pi
    return area / h(torch.zeros(1, dtype=torch.float64), one)[0]
