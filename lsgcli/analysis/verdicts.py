"""Verdicts: whether a layer is well, by thresholds that can be moved."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """Where a verdict begins. A layer gets the first that applies, in this order.

    Attributes:
        silent: firing rate below which a layer is silent.
        saturated: firing rate above which a layer is saturated.
        blocked: share of exactly zero entries of dL/du above which no gradient gets through.
        vanishing: gradient norm over that of the last layer of neurons, below which it vanishes.
        exploding: the same ratio, above which it explodes.
    """

    silent: float = 0.001
    saturated: float = 0.9
    blocked: float = 0.999
    vanishing: float = 1e-3
    exploding: float = 1e3


def verdict(record: dict[str, Any], limits: Thresholds) -> tuple[str, str]:
    """The verdict on a layer, and the measurement that decided it."""
    rate, ratio, zero = record["firing_rate"], record["grad_ratio"], record["grad_zero"]
    rules = (
        ("silent", rate < limits.silent, f"firing_rate {rate:.2g} < {limits.silent:g}"),
        ("saturated", rate > limits.saturated, f"firing_rate {rate:.2g} > {limits.saturated:g}"),
        ("blocked", zero > limits.blocked, f"grad_zero {zero:.4g} > {limits.blocked:g}"),
        ("vanishing", ratio < limits.vanishing, f"grad_ratio {ratio:.2g} < {limits.vanishing:g}"),
        # What is not a number counts as exploded.
        ("exploding", not ratio <= limits.exploding, f"grad_ratio {ratio:.2g} > {limits.exploding:g}"),
    )
    return next(((name, reason) for name, applies, reason in rules if applies), ("ok", ""))
