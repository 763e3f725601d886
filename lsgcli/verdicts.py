"""Verdicts on layers of a gradient-flow record, by thresholds that can be moved."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isnan
from typing import Any


def _limit(default: float, measure: str, sign: str, digits: int = 2) -> float:
    """A threshold: of which measure, on which side of it the verdict applies, and digits of its reason."""
    value: float = field(default=default, metadata={"measure": measure, "sign": sign, "digits": digits})
    return value


@dataclass(frozen=True)
class Thresholds:
    """Where a verdict begins. A layer gets the first that applies, in this order.

    Attributes:
        silent: firing rate below which a layer is silent.
        saturated: firing rate above which a layer is saturated.
        blocked: share of exactly zero entries of dL/du above which no gradient gets through.
        vanishing: gradient norm over that of the last spiking layer, below which it vanishes.
        exploding: the same ratio, above which it explodes, as it does where it is not a number.
    """

    silent: float = _limit(0.001, "firing_rate", "<")
    saturated: float = _limit(0.9, "firing_rate", ">")
    blocked: float = _limit(0.999, "grad_zero", ">", digits=4)
    vanishing: float = _limit(1e-3, "grad_ratio", "<")
    exploding: float = _limit(1e3, "grad_ratio", ">")


RULES = {one.name: one.metadata for one in fields(Thresholds)}
VERDICTS = tuple(RULES)


def verdict(layer: Mapping[str, Any], limits: Thresholds) -> tuple[str, str]:
    """The verdict on a layer's record, and the measurement that decided it."""
    for name, rule in RULES.items():
        value, limit = layer[rule["measure"]], getattr(limits, name)
        if (value < limit if rule["sign"] == "<" else value > limit) or (name == "exploding" and isnan(value)):
            return name, f"{rule['measure']} {value:.{rule['digits']}g} {rule['sign']} {limit:g}"
    return "ok", ""


def rule_text(name: str, limit: float, measure: str) -> str:
    """When a verdict applies, in words; ``measure`` is what to call its measure."""
    side = "below" if RULES[name]["sign"] == "<" else "above"
    return f"{measure} {side} {limit:g}" + (", or not a number" if name == "exploding" else "")
