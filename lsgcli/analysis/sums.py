"""Sums over the activity of a layer, per timestep."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.analysis.dynamics import Block
from lsgcli.neurons.kernels.cpu.bins import BINS, HIGHEST, LOWEST


@dataclass
class LayerSums:
    """Sums over samples and neurons, (T,) float64 each, and further statistics.

    Attributes:
        values: by name:

            - ``n``: number of entries per timestep;
            - ``spikes``: of o;
            - ``inside``: of 1[abs(u - v_th) < alpha/2];
            - ``h``, ``h_squared``: of the surrogate and its square;
            - ``u``, ``u_squared``, ``u_cubed``: of u / v_th;
            - ``current``, ``current_squared``, ``product``: of I[t], I[t]^2, I[t] I[t+1];
            - ``du``: entries of dL/du that are not exactly zero.
        histogram: counts of u / v_th: below ``LOWEST``, in each bin, at least ``HIGHEST``.
        ever, always: per neuron (without the batch axis): whether it fired in any sample, or at each timestep of all samples.
        beta: mean decay in the last pass.
        alpha: mean width, (T,) or (1,).
        threshold: v_th.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    histogram: Tensor | None = None
    ever: Tensor | None = None
    always: Tensor | None = None
    beta: Tensor | None = None
    alpha: Tensor | None = None
    threshold: float = 1.0

    def take(self, part: "Counted") -> None:
        """Add the counts of some neurons."""
        for name, per_step in part.values.items():
            self.add(name, per_step)
        if part.histogram is not None:
            self.histogram = part.histogram if self.histogram is None else self.histogram + part.histogram
        if part.ever is not None and part.always is not None:
            assert self.ever is not None
            assert self.always is not None
            self.ever[part.rows] |= part.ever
            self.always[part.rows] &= part.always

    def add(self, name: str, per_step: Tensor) -> None:
        """Add (T,) to a sum, which stays on the device to avoid a synchronisation."""
        before, more = self.values.get(name), per_step.double()
        if before is None:
            self.values[name] = more
            return
        if (longer := len(more) - len(before)) != 0:
            before, more = F.pad(before, (0, max(0, longer))), F.pad(more, (0, max(0, -longer)))
        self.values[name] = before + more

    def gather(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Add the sums of other processes; ``gather`` returns the tensors of all of them."""
        self.values = {name: gather(per_step).sum(0) for name, per_step in self.values.items()}

    def neurons(self, shape: torch.Size, device: torch.device) -> None:
        """Allocate the per-neuron statistics for a shape (rows, ..., C), if not allocated yet."""
        if self.ever is None or self.ever.shape != shape:
            self.ever = torch.zeros(shape, dtype=torch.bool, device=device)
            self.always = torch.ones(shape, dtype=torch.bool, device=device)


@dataclass
class Counted:
    """Counts of a block, to add to the sums of its layer; ``h`` is its surrogate, (T, ...), if computed."""

    rows: slice
    values: dict[str, Tensor]
    histogram: Tensor | None = None
    ever: Tensor | None = None
    always: Tensor | None = None
    h: Tensor | None = None


def count(block: Block, *, full: bool) -> Counted:
    """All sums of a block except ``du``, or only spikes and coverage."""
    current, threshold, width = block.current, block.p.threshold, block.p.width
    distance = block.u - threshold
    inside = distance.abs()
    torch.lt(inside, width / 2, out=inside)
    n = torch.full((len(current),), float(current[0].numel()), device=current.device)
    values = {"n": n, "spikes": _sum(block.o), "inside": _sum(inside)}
    if not full:
        return Counted(block.rows, values)
    h = block.p.surrogate(distance, width)
    u = block.u / threshold
    squared = u.square()
    values |= {"h": _sum(h), "h_squared": _dot(h, h)}
    values |= {"u": _sum(u), "u_squared": _sum(squared), "u_cubed": _dot(squared, u)}
    values |= {"current": _sum(current), "current_squared": _dot(current, current)}
    values["product"] = F.pad(_dot(current[:-1], current[1:]), (0, 1))
    return Counted(block.rows, values, _histogram(u), block.o.amax((0, 1)) > 0, block.o.amin((0, 1)) > 0, h)


def nonzero(du: Tensor) -> Tensor:
    """Number of entries of dL/du, (T, ...), that are not exactly zero: (T,)."""
    return _sum(torch.ne(du, 0, out=torch.empty_like(du, dtype=torch.promote_types(du.dtype, torch.float32))))


def _histogram(u: Tensor) -> Tensor:
    per_unit = BINS / (HIGHEST - LOWEST)
    # Bin 0 counts everything below. The second clamp handles NaN.
    places = torch.add(1 - LOWEST * per_unit, u, alpha=per_unit).clamp_(0, BINS + 1).to(torch.int32).clamp_(0, BINS + 1)
    return torch.bincount(places.flatten(), minlength=BINS + 2)


def _sum(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vecdot(x.flatten(1), y.flatten(1))
