"""Layers with gradients by autograd, of neurons that no backend computes: timestep by timestep, or all timesteps at once."""

from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from lsgcli.neurons.kernels.base import Backend
from lsgcli.neurons.layer import NeuronLayer
from lsgcli.neurons.parallel import at_once
from lsgcli.neurons.step import LIFParameters, Spike, like, measure, over_channels, over_time


class Fired(NamedTuple):
    """The values with which the neurons of a timestep fired, without gradients.

    Attributes:
        u: potential before the reset, (B, ...).
        threshold: broadcasts against u.
        alpha: width of the surrogate; broadcasts against u.
    """

    u: Tensor
    threshold: float | Tensor
    alpha: Tensor


class OfLayer(Backend):
    """Base of what runs the neurons of one layer.

    It reports to the layer's watcher, if any: ``sees(t, u)`` is called with each potential before the threshold, ``carries(state)`` with each
    state that is passed to the next timestep. Both return a tensor of the same values, which is used instead. ``ends(current, fired, out, p)``
    is called after the last timestep, with the layer's outputs.
    """

    def __init__(self, layer: NeuronLayer):
        self.layer = layer


class InParallel(OfLayer):
    """Runs :class:`~lsgcli.neurons.parallel.Parallel` neurons."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        layer = self.layer
        neuron = self.layer.neuron
        watcher = self.layer.watcher
        wide = current.to(torch.promote_types(current.dtype, torch.float32))
        with torch.autocast(current.device.type, enabled=False):
            u, threshold = at_once(neuron, wide, SimpleNamespace(**p._asdict() | layer.of_neuron()))
        steps: list[Fired] = []
        if layer.membrane is not None or watcher is not None:
            seen = []
            each = like(threshold, u).detach().expand(len(u), *(1,) * (u.dim() - 1))
            for t, at in enumerate(p.each_step(wide)):
                now = u[t] if layer.membrane is None else layer.membrane(u[t])
                seen.append(now if watcher is None else watcher.sees(t, now))
                steps.append(Fired(now.detach(), each[t], at.alpha))
            u = torch.stack(seen)
        if p.measured is not None:
            measure(p.measured, u)
        out = Spike.apply(u, threshold, over_time(p.alpha, u.dim()), layer.surrogate).to(current.dtype)
        if watcher is not None:
            watcher.ends(wide.detach(), steps, out, p)
        return out


class Unrolled(OfLayer):
    """Runs the neurons timestep by timestep."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        layer = self.layer
        neuron = self.layer.neuron
        watcher = self.layer.watcher
        wide = current.to(torch.promote_types(current.dtype, torch.float32))
        state = {name: torch.zeros_like(wide[0]) for name in neuron.states}
        steps: list[Fired] = []
        outputs = []
        trailing = max(0, current.dim() - 3)

        for t, (now, at) in enumerate(zip(wide, p.each_step(wide), strict=True)):

            def fire(u: Tensor, threshold: float | Tensor, t: int = t, at: LIFParameters = at) -> Tensor:
                u = u if layer.membrane is None else layer.membrane(u)
                u = u if watcher is None else watcher.sees(t, u)
                if p.measured is not None:
                    measure(p.measured[:, min(t, p.measured.shape[1] - 1)] if p.measured.dim() > 1 else p.measured, u)
                threshold, alpha = neuron.aim(layer, u.detach(), t, threshold, at.alpha)
                if watcher is not None:
                    steps.append(Fired(u.detach(), threshold, alpha))
                return neuron.fire(layer, u, t, threshold, alpha)

            own = {name: _of_step(value, t, trailing) for name, value in layer.of_neuron().items()}
            o, after = neuron.step(now, state, SimpleNamespace(**p._asdict() | own), fire)
            outputs.append(o)
            state = dict(after) if watcher is None else {name: watcher.carries(value) for name, value in after.items()}
        out = torch.stack(outputs).to(current.dtype)
        if watcher is not None:
            watcher.ends(wide.detach(), steps, out, p)
        return out


def _of_step(parameter: Tensor, t: int, trailing: int) -> Tensor:
    """A parameter (), (C,) or (T, C) at a timestep, shaped to broadcast against (C, ...) with ``trailing`` axes after C."""
    if parameter.dim() == 2:
        parameter = parameter[min(t, len(parameter) - 1)]
    return over_channels(parameter, trailing)
