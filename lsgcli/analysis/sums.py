"""Sums over the activity of a layer, per timestep, and the measures that follow from them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.analysis.dynamics import Block, LayerInput, laid
from lsgcli.analysis.measures import LAYER, measured
from lsgcli.neurons.kernels.cpu.job import BINS, HIGHEST, LOWEST, PLACES
from lsgcli.neurons.step import over_time


@dataclass
class LayerSums:
    """Sums over samples and neurons, (T,) float64 each, and further statistics.

    Attributes:
        values: by name:

            - ``n``: number of entries per timestep;
            - ``spikes``: sum of o;
            - ``inside``: sum of 1[abs(u - v_th) < alpha/2];
            - ``h``, ``h_squared``: sums of the surrogate and of its square;
            - ``u``, ``u_squared``, ``u_cubed``: sums of powers of u / v_th;
            - ``current``, ``current_squared``, ``product``: sums of I[t], I[t]^2, I[t] I[t+1];
            - ``du``: number of entries of dL/du that are not exactly zero;
            - ``grad_squared``: sum of (dL/do)^2;
            - ``d``, ``d_abs``, ``d_squared``, ``d_product``: in detail, sums of d[t] = dL/du[t], its absolute value, its square, and d[t] d[t+1].
        histogram: counts of u / v_th: below ``LOWEST``, in each bin, at least ``HIGHEST``.
        ever, always: per neuron (without the batch axis): whether it fired in any sample, or at each timestep of all samples.
        beta: mean decay in the last pass.
        alpha: mean width, (T,) or (1,).
        v_th: threshold; its mean if neurons or timesteps differ.
        detailed: whether the sums of dL/du itself are counted, which takes longer.
        scale: factor of tdBN on the weights' output in the last pass, (C,); None without tdBN.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    histogram: Tensor = field(default_factory=lambda: torch.zeros(PLACES, dtype=torch.int64))
    ever: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    always: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    beta: Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    alpha: Tensor = field(default_factory=lambda: torch.full((1,), math.nan))
    v_th: float | Tensor = 1.0
    scale: Tensor | None = None
    detailed: bool = False
    _later: Tensor | None = field(default=None, repr=False)  # dL/du of the step that was counted before

    def begin(self, given: LayerInput) -> None:
        """Record the dynamics of a pass, and allocate the statistics per neuron."""
        x = given.x
        p = given.p
        self.beta = p.decay.detach()
        self.v_th = p.threshold
        self.scale = given.scale
        self.alpha = over_time(p.width.detach(), x.dim()).flatten(1).mean(1)
        shape = laid(x).shape[2:]
        if self.ever.shape != shape:
            self.histogram = self.histogram.to(x.device)
            self.ever = torch.zeros(shape, dtype=torch.bool, device=x.device)
            self.always = ~self.ever

    @property
    def threshold(self) -> float:
        """v_th, read from the device."""
        return float(self.v_th)

    def add(self, **sums: Tensor) -> None:
        """Add (T,) to sums, which stay on the device to avoid a synchronisation."""
        for name, per_step in sums.items():
            before = self.values.get(name)
            more = per_step.double()
            if before is not None:
                longer = len(more) - len(before)
                more = F.pad(before, (0, max(0, longer))) + F.pad(more, (0, max(0, -longer)))
            self.values[name] = more

    def count(self, block: Block, *, full: bool) -> None:
        """Add the sums of a block's forward pass; without ``full`` only spikes and coverage."""
        current = block.current
        threshold = block.p.threshold
        width = block.p.width
        distance = block.u - threshold
        inside = distance.abs()
        torch.lt(inside, width / 2, out=inside)
        n = torch.full((len(current),), float(current[0].numel()), device=current.device)
        self.add(n=n, spikes=_sum(block.o), inside=_sum(inside))
        if not full:
            return
        h = block.p.surrogate(distance, width)
        u = block.u / threshold
        squared = u.square()
        self.add(h=_sum(h), h_squared=_dot(h, h), u=_sum(u), u_squared=_sum(squared), u_cubed=_dot(squared, u))
        self.add(current=_sum(current), current_squared=_dot(current, current))
        self.add(product=F.pad(_dot(current[:-1], current[1:]), (0, 1)))
        self.histogram += _histogram(u)
        self.ever |= block.o.amax((0, 1)) > 0
        self.always &= block.o.amin((0, 1)) > 0

    def add_gradient(self, grad: Tensor, before: int = 0, side: int = 1) -> None:
        """Add dL/do, (T, ...), or the gradient of averages over windows of side x side; ``before`` timesteps precede."""
        norms = torch.linalg.vector_norm(grad, dim=tuple(range(1, grad.dim())), dtype=torch.float64)
        self.add(grad_squared=F.pad((norms / side).square(), (before, 0)))

    def mean(self, name: str) -> float:
        """Mean over all entries; NaN without data."""
        return float(self.values[name].sum() / self.values["n"].sum()) if name in self.values else math.nan

    def gather(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Add the sums of other processes; ``gather`` returns the tensors of all of them."""
        self.values = {name: gather(per_step).sum(0) for name, per_step in self.values.items()}

    def add_membrane_gradient(self, du: Tensor, before: int = 0) -> None:
        """Count the entries of dL/du, (T, ...), that are not exactly zero, and in detail add its sums; ``before`` timesteps precede.

        Single timesteps are added from the last to the first.
        """
        marks = torch.ne(du, 0, out=torch.empty_like(du, dtype=torch.promote_types(du.dtype, torch.float32)))
        self.add(du=F.pad(_sum(marks), (before, 0)))
        if not self.detailed:
            return
        d = du.detach().to(marks.dtype)
        later = d[1:] if len(d) > 1 else d[:0] if self._later is None else self._later
        product = F.pad(_dot(d[: len(later)], later), (0, len(d) - len(later)))
        self._later = d[:1] if len(d) == 1 and before else None
        moments = {"d": _sum(d), "d_abs": _sum(d.abs()), "d_squared": _dot(d, d), "d_product": product}
        self.add(**{name: F.pad(total, (before, 0)) for name, total in moments.items()})


def _histogram(u: Tensor) -> Tensor:
    per_unit = BINS / (HIGHEST - LOWEST)
    # Bin 0 counts everything below. The second clamp handles NaN.
    places = torch.add(1 - LOWEST * per_unit, u, alpha=per_unit).clamp_(0, BINS + 1).to(torch.int32).clamp_(0, BINS + 1)
    return torch.bincount(places.flatten(), minlength=PLACES)


def _sum(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vecdot(x.flatten(1), y.flatten(1))


def light(sums: LayerSums) -> dict[str, Any]:
    """Measures recorded in each training epoch."""
    return {
        "beta": number(sums.beta),
        "alpha": number(sums.alpha),
        "coverage": sums.mean("inside"),
        "firing_rate": sums.mean("spikes"),
    }


def signal(sums: LayerSums, gamma: Tensor | None) -> dict[str, Any]:
    """All measures of currents, potentials and spikes.

    Args:
        sums: sums of the layer, counted with ``full``.
        gamma: weight of the layer's tdBN.
    """
    totals = {name: total.tolist() for name, total in sums.values.items()}
    steps = range(len(totals.get("n", ())))
    pooled = measured(totals, steps)
    each = [measured(totals, [t]) for t in steps]
    alpha = number(sums.alpha)
    beta = number(sums.beta)
    scale = None if gamma is None else number(gamma)
    widths = sums.alpha.tolist()
    predicted = [math.sqrt(sum(beta ** (2 * k) for k in range(t + 1))) for t in steps]  # also at beta = 1
    return {
        **pooled,
        "beta": beta,
        "alpha": alpha,
        "interval": [sums.threshold - alpha / 2, sums.threshold + alpha / 2],
        "gamma": scale,
        "silent": _share(~sums.ever),
        "saturated": _share(sums.always),
        "u_std_predicted": {
            "paper": math.sqrt(1 + beta**2),
            "with_gamma": None if scale is None else abs(scale) * math.sqrt(1 + beta**2),
            "without_reset": predicted[-1] if predicted else math.nan,
        },
        "histogram": histogram(sums.histogram),
        "drift": {name: each[-1][f"u_{name}"] - each[0][f"u_{name}"] if each else math.nan for name in ("mean", "std")},
        "per_step": {
            "alpha": [widths[min(t, len(widths) - 1)] for t in steps],
            **{name: [means[name] for means in each] for name in pooled if LAYER[name].per_step},
            "u_std_predicted": predicted,
        },
    }


def histogram(counts: Tensor) -> dict[str, Any]:
    """Bin edges and counts of u / v_th, and counts outside."""
    width = (HIGHEST - LOWEST) / BINS
    below, *inside, above = counts.tolist()
    edges = [round(LOWEST + k * width, 9) for k in range(BINS + 1)]
    return {"edges": edges, "counts": inside, "below": below, "above": above}


def number(x: Tensor) -> float:
    """The mean of a parameter."""
    return float(x.detach().double().mean())


def _share(marks: Tensor) -> float:
    """Fraction of true entries; NaN if empty."""
    return float(marks.double().mean())
