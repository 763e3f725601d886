"""Conversion of sums to measures of currents, potentials and spikes."""

import math
from typing import Any

from torch import Tensor

from lsgcli.analysis.sums import LayerSums
from lsgcli.neurons.kernels.cpu.bins import BINS, HIGHEST, LOWEST


class Means:
    """Means from the sums of a layer, over all timesteps or at timestep t.

    Args:
        sums: sums of the layer, copied to the host once.
    """

    def __init__(self, sums: LayerSums):
        self.sums = {name: total.tolist() for name, total in sums.values.items()}
        self.steps = range(len(self.sums.get("n", [])))

    def __call__(self, name: str, t: int | None = None) -> float:
        """Mean of ``name``; NaN without data."""
        part = slice(None) if t is None else slice(t, t + 1)
        n = sum(self.sums.get("n", [])[part])
        return sum(self.sums.get(name, [])[part]) / n if n else math.nan

    def each(self, name: str) -> list[float]:
        """Means of all timesteps."""
        return [self(name, t) for t in self.steps]

    def spread(self, t: int | None = None) -> tuple[float, float, float]:
        """Mean, standard deviation and skewness of u / v_th."""
        mean, square, cube = (self(name, t) for name in ("u", "u_squared", "u_cubed"))
        variance = square - mean**2
        std = math.sqrt(variance) if variance > 0 else 0.0 if variance <= 0 else math.nan
        return mean, std, (cube - 3 * mean * square + 2 * mean**3) / std**3 if std > 0 else math.nan

    def rho(self, t: int | None = None) -> float:
        """corr(I[t], I[t+1]), pooled over t = 1 .. T-1 or for one t; NaN at the last timestep."""
        last = len(self.steps) - 1
        here = [(range(last) if t is None else [t]), (range(1, last + 1) if t is None else [t + 1])]
        n = sum(self.sums["n"][k] for k in here[0])
        if last < 1 or t == last or not n:
            return math.nan
        means = [sum(self.sums["current"][k] for k in steps) / n for steps in here]
        squares = [sum(self.sums["current_squared"][k] for k in steps) / n for steps in here]
        variances = [square - mean**2 for square, mean in zip(squares, means, strict=True)]
        covariance = sum(self.sums["product"][k] for k in here[0]) / n - means[0] * means[1]
        return covariance / math.sqrt(variances[0] * variances[1]) if min(variances) > 0 else math.nan


def light(sums: LayerSums) -> dict[str, Any]:
    """Measures recorded in each training epoch."""
    means = Means(sums)
    return {"beta": number(sums.beta), "alpha": number(sums.alpha), "coverage": means("inside"), "firing_rate": means("spikes")}


def moments(sums: LayerSums, gamma: Tensor | None) -> dict[str, Any]:
    """All measures of the forward pass.

    Args:
        sums: sums of the layer, counted with ``full``.
        gamma: weight of the layer's tdBN.
    """
    means = Means(sums)
    mean, std, skew = means.spread()
    alpha, beta, each = number(sums.alpha), number(sums.beta), [means.spread(t) for t in means.steps]
    scale = None if gamma is None else number(gamma)
    widths = [] if sums.alpha is None else sums.alpha.tolist()
    predicted = [math.sqrt(sum(beta ** (2 * k) for k in range(t + 1))) for t in means.steps]  # also at beta = 1
    return {
        "beta": beta,
        "alpha": alpha,
        "interval": [sums.threshold - alpha / 2, sums.threshold + alpha / 2],
        "gamma": scale,
        "coverage": means("inside"),
        "sg_mean": means("h"),
        "sg_sq_mean": means("h_squared"),
        "firing_rate": means("spikes"),
        "silent": share(None if sums.ever is None else ~sums.ever),
        "saturated": share(sums.always),
        "u_mean": mean,
        "u_std": std,
        "u_skew": skew,
        "u_std_predicted": {
            "paper": math.sqrt(1 + beta**2),
            "with_gamma": None if scale is None else abs(scale) * math.sqrt(1 + beta**2),
            "without_reset": predicted[-1] if predicted else math.nan,
        },
        "rho": means.rho() if means.steps else math.nan,
        "grad_zero": 1 - means("du"),
        "histogram": histogram(sums.histogram),
        "per_step": {
            "alpha": [widths[min(t, len(widths) - 1)] for t in means.steps],
            "coverage": means.each("inside"),
            "sg_mean": means.each("h"),
            "sg_sq_mean": means.each("h_squared"),
            "firing_rate": means.each("spikes"),
            "u_mean": [one[0] for one in each],
            "u_std": [one[1] for one in each],
            "u_skew": [one[2] for one in each],
            "u_std_predicted": predicted,
            "rho": [means.rho(t) for t in means.steps],
            "grad_zero": [1 - mean for mean in means.each("du")],
        },
    }


def histogram(counts: Tensor | None) -> dict[str, Any]:
    """Bin edges and counts of u / v_th, and counts outside."""
    width = (HIGHEST - LOWEST) / BINS
    below, *inside, above = counts.tolist() if counts is not None else [0] * (BINS + 2)
    edges = [round(LOWEST + k * width, 9) for k in range(BINS + 1)]
    return {"edges": edges, "counts": inside, "below": below, "above": above}


def number(x: Tensor | None) -> float:
    """The mean of a parameter."""
    return math.nan if x is None else float(x.detach().double().mean())


def share(marks: Tensor | None) -> float:
    """Fraction of true entries."""
    return math.nan if marks is None or not marks.numel() else float(marks.double().mean())
