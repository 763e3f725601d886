"""Verdicts on layers of a gradient-flow record, by configurable thresholds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from math import isfinite, isnan
from typing import Any

from lsgcli import registry
from lsgcli.errors import ConfigError


def _limit(default: float, measure: str, sign: str, digits: int = 2) -> float:
    """A threshold: its measure, the side on which the verdict applies, and the number of digits in the reason."""
    value: float = field(default=default, metadata={"measure": measure, "sign": sign, "digits": digits})
    return value


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the verdicts. A layer with potentials that are not finite is ``exploding``; others get the first verdict that applies.

    Attributes:
        silent: firing rate below which a layer is silent.
        saturated: firing rate above which a layer is saturated.
        blocked: fraction of exactly zero entries of dL/du above which a layer is blocked.
        vanishing: gradient norm relative to the last spiking layer, below which the gradient vanishes.
        exploding: the same ratio, above which the gradient explodes; NaN counts as exploding.
    """

    silent: float = _limit(0.001, "firing_rate", "<")
    saturated: float = _limit(0.9, "firing_rate", ">")
    blocked: float = _limit(0.999, "grad_zero", ">", digits=6)
    vanishing: float = _limit(1e-3, "grad_ratio", "<")
    exploding: float = _limit(1e3, "grad_ratio", ">")


RULES = {threshold.name: threshold.metadata for threshold in fields(Thresholds)}
VERDICTS = tuple(RULES)


def verdict(layer: Mapping[str, Any], limits: Thresholds) -> tuple[str, str]:
    """The verdict on a layer's record, and its reason."""
    if not isfinite(layer.get("u_mean", 0.0)):  # such neurons do not fire, but are not silent
        return "exploding", f"u_mean {layer['u_mean']:g} is not finite"
    for name, rule in RULES.items():
        value, limit = layer[rule["measure"]], getattr(limits, name)
        if name == "exploding" and isnan(value):
            return name, f"{rule['measure']} is not a number"
        if value < limit if rule["sign"] == "<" else value > limit:
            return name, f"{rule['measure']} {value:.{rule['digits']}g} {rule['sign']} {limit:g}"
    return "ok", ""


def rule_text(name: str, limit: float, measure: str) -> str:
    """Description of a verdict's condition; ``measure`` is the name of its measure."""
    side = "below" if RULES[name]["sign"] == "<" else "above"
    return f"{measure} {side} {limit:g}" + (
        ", or not a number; before all others, u_mean not finite" if name == "exploding" else ""
    )


def parse_gates(text: str) -> set[str]:
    """The verdicts and rules of ``--fail-on``, a comma-separated list.

    Raises:
        ConfigError: an unknown name.
    """
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - {*VERDICTS, *registry.names("rule")}):
        raise ConfigError(f"--fail-on: found {', '.join(map(repr, unknown))}, expected a comma-separated list of {_names()}")
    return names


def parse_limits(texts: Iterable[str]) -> tuple[Thresholds, dict[str, float]]:
    """The thresholds of ``--limit`` for verdicts and for rules, each as ``NAME=NUMBER``.

    Raises:
        ConfigError: an unknown name, or an invalid number.
    """
    limits, problems = {}, []
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
            valid = name in {*VERDICTS, *registry.names("rule")} and isfinite(limits[name])
        except ValueError:
            valid = False
        if not valid:
            problems.append(f"--limit: found {text!r}, expected NAME=NUMBER with one of {_names()}")
    if problems:
        raise ConfigError("\n".join(problems))
    of_verdicts = {name: limit for name, limit in limits.items() if name in VERDICTS}
    return Thresholds(**of_verdicts), {name: limit for name, limit in limits.items() if name not in VERDICTS}


def _names() -> str:
    return f"{', '.join(VERDICTS)}, or with --advise {', '.join(registry.names('rule'))}"
