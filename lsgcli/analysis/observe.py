"""Observing layers of neurons while a network runs forward and backward, in bounded memory.

The membrane potential is recomputed, one timestep at a time, from the current that enters the layer, so that backends need not
expose it; dL/du is the gradient of that current (dI[t] = du[t]). Only sums are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.neurons import LIF, initial_state, step


@dataclass
class LayerSums:
    """Sums over everything that a layer did, per timestep: each list has T entries.

    Attributes:
        n: neurons times samples, per timestep.
        spikes: of o.
        inside: of 1[abs(u - v_th) < alpha/2].
        h, h_squared: of the surrogate and its square.
        u, u_squared, u_cubed: of u / v_th.
        current, current_squared, product: of I[t], I[t]^2, I[t] I[t+1].
        du_zero: entries of dL/du that are exactly zero.
        ever, always: per neuron (without the batch axis): fired in any sample; at every step of every sample.
    """

    n: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    ever: Tensor | None = None
    always: Tensor | None = None

    def add(self, name: str, t: int, value: Tensor | float) -> None:
        """Add to the sum ``name`` at step t."""
        entries = self.values.setdefault(name, [])
        entries += [0.0] * (t + 1 - len(entries))
        entries[t] += float(value)

    def count(self, t: int, n: int) -> None:
        """Add n to the number of entries at step t."""
        self.n += [0] * (t + 1 - len(self.n))
        self.n[t] += n

    def mean(self, name: str, t: int | None = None) -> float:
        """Mean of what was summed, pooled over time or at step t."""
        entries = self.values.get(name, [])
        if t is not None:
            return entries[t] / self.n[t]
        return sum(entries) / max(1, sum(self.n))


class LayerObserver:
    """Watches one LIF through hooks.

    Args:
        lif: the layer.
        full: all sums; otherwise spikes and coverage only, for a glance in the middle of training.
    """

    def __init__(self, lif: LIF, full: bool):
        self.lif, self.full, self.sums = lif, full, LayerSums()
        self.handle = lif.register_forward_pre_hook(self._forward)

    @torch.no_grad()
    def _forward(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        current: Tensor = arguments[0]
        if current.requires_grad and self.full:
            current.register_hook(self._backward)
        p = self.lif.parameters_for(current)
        state = initial_state(current[0].to(torch.promote_types(current.dtype, torch.float32)))
        spiked = torch.zeros_like(state.o, dtype=torch.bool)
        always = torch.ones_like(spiked)
        for t, (current_t, p_t) in enumerate(zip(current, p.each_step(current), strict=True)):
            o, state = step(current_t.to(state.u.dtype), state, p_t)
            self._count(t, current_t, current[t + 1] if t + 1 < len(current) else None, state.u, o, p_t.alpha)
            spiked |= o.bool()
            always &= o.bool()
        if self.full:
            ever, every = spiked.any(0), always.all(0)
            self.sums.ever = ever if self.sums.ever is None else self.sums.ever | ever
            self.sums.always = every if self.sums.always is None else self.sums.always & every

    def _count(self, t: int, current: Tensor, following: Tensor | None, u: Tensor, o: Tensor, alpha: Tensor) -> None:
        sums, threshold = self.sums, self.lif.threshold
        sums.count(t, u.numel())
        sums.add("spikes", t, o.sum())
        sums.add("inside", t, ((u - threshold).abs() < alpha / 2).sum())
        if not self.full:
            return
        h = self.lif.surrogate(u - threshold, alpha)
        scaled = u / threshold
        total = {"h": h, "h_squared": h.square(), "u": scaled, "u_squared": scaled.square(), "u_cubed": scaled**3}
        total |= {"current": current, "current_squared": current.square()}
        if following is not None:
            total["product"] = current * following
        for name, values in total.items():
            sums.add(name, t, values.sum(dtype=torch.float64))

    def _backward(self, grad: Tensor) -> None:
        for t, du in enumerate(grad):
            self.sums.add("du_zero", t, (du == 0).sum())


@contextmanager
def observing(layers: dict[str, LIF], *, full: bool) -> Iterator[dict[str, LayerSums]]:
    """Observe the named layers while the block runs; the sums fill as it does."""
    observers = {name: LayerObserver(lif, full) for name, lif in layers.items()}
    try:
        yield {name: observer.sums for name, observer in observers.items()}
    finally:
        for observer in observers.values():
            observer.handle.remove()
