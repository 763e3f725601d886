"""Observation of layers of neurons during forward and backward passes; only sums are stored.

An adapter describes the layers of a network. Layers of other libraries are observed through hooks on their modules; helpers for
adapters are at the end.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.dynamics import Dynamics, LayerInput, blocks, heights, laid, one_thread
from lsgcli.analysis.sums import LayerSums
from lsgcli.errors import ConfigError
from lsgcli.neurons.surrogates import Surrogate

POINTS = 200_001  # sampling points for the area of a surrogate
# Fraction of a module's spikes that may differ from the spikes of its dynamics, due to rounding; True: in 16-bit types.
DIFFERING = {False: 0.01, True: 0.2}


class Watcher(ABC):
    """Observes one layer and accumulates its sums, until it is closed.

    Args:
        full: accumulate all sums; otherwise only spikes and coverage, as during training.

    Attributes:
        layer: the observed layer.
        sums: the accumulated sums.
        spatial: while true, backward passes omit the recurrence u[t-1] -> u[t]: dL/du[t] = dL/do[t] * h[t].
        T: number of timesteps of the current batch.
        calls: number of calls of the neurons in the current batch.
    """

    spatial = False
    T = 0
    calls = 0

    def __init__(self, layer: "Layer", full: bool):
        self.layer, self.sums, self.full = layer, LayerSums(), full

    def finish(self) -> None:
        """Add a batch to the sums, after its forward and, with ``full``, backward pass.

        Raises:
            ConfigError: the neurons were called in several places, not at all, or not in the way that the adapter states.
        """
        calls = self.calls
        self.calls = 0
        if calls == 0 or (calls > 1 and not self.layer.steps):
            expected = "once for each timestep" if self.layer.steps else "once, with the whole sequence"
            raise ConfigError(
                f"layer {self.layer.name}: its module was called {calls} times in a forward pass, expected {expected}",
                hint="Use a module of neurons in one place of the network only; in an adapter, set `steps` according to how they are called.",
            )
        self.end_batch()

    def end_batch(self) -> None:  # noqa: B027 (a watcher may have nothing to add)
        """Add the sums of a batch that are complete only after its passes."""

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
def watching(layers: Sequence[Layer], *, full: bool) -> Iterator[dict[str, Watcher]]:
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
        super().__init__(layer, full)
        self.currents: list[Tensor] = []  # of each call
        # output != 0 of each call; of fewer calls if outputs have several nonzero values.
        self.fired: list[Tensor] = []
        self.arrived: dict[int, Tensor] = {}  # call -> dL/do, in a pass without the recurrence
        self.heights: Tensor | None = None
        self.handles = [layer.module.register_forward_pre_hook(self._enters), layer.module.register_forward_hook(self._leaves)]

    def end_batch(self) -> None:
        given = self._layer_input()
        self.sums.begin(given)
        fired = laid(self._joined(self.fired)) if len(self.fired) == len(self.currents) else None
        spikes = torch.zeros(3, dtype=torch.float64)  # of the module, of the dynamics, and of only one of the two
        with one_thread():
            for block in blocks(given):
                self.sums.count(block, full=self.full)
                if fired is not None:
                    of_module = fired[:, block.samples]
                    by_dynamics = block.o > 0
                    counts = of_module.sum(), by_dynamics.sum(), (of_module != by_dynamics).sum()
                    spikes += torch.stack(counts).cpu()
        self._check(spikes.tolist(), given.x.numel())
        self.currents = []
        self.fired = []
        self.arrived = {}
        self.heights = None

    def _check(self, spikes: Sequence[float], entries: int) -> None:
        """Check that the dynamics of the adapter are those of the module, from the numbers of spikes of both and of only one."""
        of_module, of_dynamics, differing = spikes
        if differing > max(2, DIFFERING[self.currents[0].element_size() < 4] * (of_module + of_dynamics) / 2):
            raise ConfigError(
                f"layer {self.layer.name}: found a firing rate of {of_module / entries:.4g} in the module's output and of {of_dynamics / entries:.4g} by the "
                f"dynamics of the adapter, which differ in {differing:.0f} of {entries} values, expected the same spikes",
                hint="Correct threshold, decay, gain, reset, strict or `steps` in the adapter; if the module keeps its state between batches, "
                "give inspect() a function `reset`.",
            )

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _layer_input(self) -> LayerInput:
        x = self._joined(self.currents)
        p = self.layer.dynamics()
        decay, width = (torch.as_tensor(value, device=x.device) for value in (p.decay, p.width))
        return LayerInput(x, p._replace(decay=decay, width=width))

    def _joined(self, calls: list[Tensor]) -> Tensor:
        """Tensors of all timesteps, (T, B, ...)."""
        return torch.stack(calls) if self.layer.steps else calls[0]

    def _enters(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        current, *others = arguments
        call = len(self.currents)
        self.calls += 1
        self.currents.append(current.detach())
        self.T = len(self.currents) if self.layer.steps else len(current)
        if not (self.full and current.requires_grad):
            return None
        current = current.view_as(current)  # excludes gradients of other users of the current
        current.register_hook(lambda grad: self._through(call, grad))
        return (current, *others)

    def _leaves(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        several = isinstance(output, tuple | list)
        spikes = output[0] if several else output
        if not isinstance(spikes, Tensor) or spikes.shape != self.currents[-1].shape:
            description = tuple(spikes.shape) if isinstance(spikes, Tensor) else type(spikes).__name__
            raise ConfigError(
                f"layer {self.layer.name}: found an output {description} of its module, expected spikes {tuple(self.currents[-1].shape)}, "
                "like its input, or a tuple that begins with them"
            )
        fired = spikes.detach() != 0
        if len(self.fired) == len(self.currents) - 1 and bool((spikes == spikes.max())[fired].all()):  # otherwise graded
            self.fired.append(fired)
        if not (self.full and spikes.requires_grad):
            return output
        call = len(self.currents) - 1
        spikes = spikes.view_as(spikes)  # excludes gradients through the module's own use of the spikes, such as the reset
        spikes.register_hook(lambda grad: self._arrives(call, grad))
        if not several:
            return spikes
        parts = [spikes, *output[1:]]
        return output._make(parts) if hasattr(output, "_make") else type(output)(parts)

    def _arrives(self, call: int, grad: Tensor) -> None:
        if self.spatial:
            self.arrived[call] = grad
        else:
            self.sums.add_gradient(grad[None] if self.layer.steps else grad, call)

    def _through(self, call: int, grad: Tensor) -> Tensor | None:
        """Observe dL/dI of a call, which is gain * dL/du, or replace it by the gradient without the recurrence."""
        if not self.spatial:
            gain = self.layer.dynamics().gain
            du = grad if gain == 1 else grad / gain
            self.sums.add_membrane_gradient(du[None] if self.layer.steps else du, call)
            return None
        if self.heights is None:
            self.heights = heights(self._layer_input())
        if call not in self.arrived:
            return torch.zeros_like(grad)
        height = self.heights[call] if self.layer.steps else self.heights
        return (self.arrived.pop(call) * height).to(grad.dtype)


def pairs(net: nn.Module, neurons: type[nn.Module]) -> Iterator[tuple[str, Any, Tensor]]:
    """Pair the neurons of a class with their weights, in a network whose modules are registered in execution order.

    Yields:
        Name of the neurons, as in ``named_modules``, their module, and the weight of the last linear layer or convolution registered
        before them.

    Raises:
        ConfigError: two modules of neurons follow the same weights, for example because modules are registered in another order.
    """
    synapse: nn.Linear | nn.modules.conv._ConvNd | None = None
    paired = ""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            synapse = module
            paired = ""
        if isinstance(module, neurons) and synapse is not None:
            if paired:
                raise ConfigError(
                    f"inspect: found the neurons {paired} and {name} registered after the same weights, expected weights between them",
                    hint="Register modules in the order in which they run, or give an adapter that returns each layer with its weight.",
                )
            paired = name
            yield name, module, synapse.weight


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
    x = angle.tan()
    unit = torch.ones((), dtype=torch.float64)
    values = h(x, unit)
    area = (values * (1 + x.square())).mean() * math.pi
    return area / torch.maximum(values.max(), h(torch.zeros(1, dtype=torch.float64), unit)[0])
