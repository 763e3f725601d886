"""Rules on the measures of layers: scales, firing rates, surrogates, gradients and decays."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from lsgcli.analysis.measures import value
from lsgcli.analysis.rules.base import Evidence, Found, Remedy, Rule
from lsgcli.config.neuron import TAKE_WIDTH
from lsgcli.registry import register


@register("rule", "input-scale")
class InputScale(Rule):
    """The input is not scaled, and no normalisation follows the first weights."""

    measure, usual, limit = "input.std", "0.1 to 10", 10.0
    source = "spyx; snntorch, issue 219"

    def found(self, e: Evidence, limit: float) -> Found | None:
        std, potential = value(e.flow, "input.std"), value(e.layers[0], "u_std") if e.layers else None
        if not std or potential is None or 1 / limit <= std <= limit:
            return None
        return Found(std, (e.layers[0]["name"],)) if not 1 / limit <= potential <= limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            f"Divide the input by {found.value:.2g}, its standard deviation, or normalise the current of the first layer."
        )


@register("rule", "potential-scale")
class PotentialScale(Rule):
    """The scale of the weights does not fit the threshold: potentials are far from it, or far beyond it."""

    measure, usual, limit = "u_std", "1/3 to 3 v_th", 3.0
    largest = 10.0  # trained normalisation widens potentials up to here without harm
    source = "Rossbroich et al. 2022: xi from 1 to 3"

    def found(self, e: Evidence, limit: float) -> Found | None:
        low = e.where("u_std", lambda layer: layer["u_std"] < 1 / limit, smallest=True)
        return low or e.where("u_std", lambda layer: layer["u_std"] > max(limit, self.largest))

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        spread = e.mean("u_std", found.layers[:1])
        settings = e.back("threshold", 2)
        if not settings and e.settings.get("norm") != "tdbn" and e.usual.get("norm") == "tdbn":
            settings = {"norm": "tdbn"}
        settings = settings or e.threshold(max(spread, 1e-3), found.layers)
        text = (
            f"Multiply the initial weights of {found.layers[0]} by {1 / spread:.2g}"
            if spread > 0
            else "Enlarge the initial weights"
        )
        if e.settings and not settings:
            text = (
                f"Check that the normalisation before {found.layers[0]} uses the statistics of each batch in training. {text}"
            )
        return Remedy(f"{text}, normalise its current (tdBN), or change the threshold by the inverse.", settings)


@register("rule", "silent")
class SilentLayers(Rule):
    """Neurons hardly ever reach the threshold, so that later layers receive nothing, and no gradient tells them to."""

    measure, usual, limit = "firing_rate", "0.02 to 0.3", 0.01
    source = "stork; spyx: 5 to 15 %"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("firing_rate", lambda layer: layer["firing_rate"] < limit, smallest=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("threshold", 1.5) or e.threshold(0.5, found.layers)
        first = found.layers[0]
        normalised = f"Double the weight of the normalisation before {first}, and check that its bias is not far below 0."
        return Remedy(
            f"Halve the threshold, or double the weights before {first}." if settings or not e.settings else normalised,
            settings,
        )


@register("rule", "saturated")
class SaturatedLayers(Rule):
    """Neurons fire at almost every timestep, so that spikes carry no information."""

    measure, usual, limit = "firing_rate", "0.02 to 0.3", 0.6
    source = "snntorch, issue 66"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("firing_rate", lambda layer: layer["firing_rate"] > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("threshold", 1.5)
        if not settings and e.settings and e.settings["decay"] > 2 * e.usual["decay"]:
            settings = {"decay": e.usual["decay"]} | ({"input_gain": "1-beta"} if e.mean("beta") > 0.5 else {})
        if not settings and e.settings and e.mean("beta") > 0.5 and e.settings["input_gain"] == "1":
            settings = {"input_gain": "1-beta"}
        return Remedy(
            "Decrease the decay, scale the current by 1 - beta, or double the threshold.",
            settings or e.threshold(2, found.layers),
        )


@register("rule", "narrow-window")
class NarrowWindow(Rule):
    """The surrogate is zero at almost all potentials, so that almost no gradient passes."""

    measure, usual, limit = "coverage", "0.2 to 0.8", 0.1
    source = "Lian et al. 2023, Table 2; 2 sigma: Theorem 1"

    def found(self, e: Evidence, limit: float) -> Found | None:
        def narrow(layer: Mapping[str, Any]) -> bool:
            share, zero = layer["coverage"], layer.get("grad_zero") or 0
            return bool(share < limit / 100 or (share < limit and zero > 1 - 2 * limit))

        return e.where("coverage", narrow, smallest=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return _two_sigma(e, "Widen")


@register("rule", "wide-window")
class WideWindow(Rule):
    """The surrogate is much wider than the distribution of potentials, so that its gradient says little about spikes."""

    measure, usual, limit = "alpha", "1 to 4 standard deviations of u", 4.0
    source = "Lian et al. 2023, Table 2: widths 5 and 10 give 61.5 and 30.8 instead of 92.7 %"

    def found(self, e: Evidence, limit: float) -> Found | None:
        def wide(layer: Mapping[str, Any]) -> bool:
            std = layer.get("u_std")
            return bool(std and layer["alpha"] > 2 * limit * std * e.flow["threshold"])

        return e.where("alpha", wide)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return _two_sigma(e, "Narrow")


@register("rule", "blocked")
class Blocked(Rule):
    """The gradient of the potentials is exactly zero at almost all neurons, so that the weights before them hardly change."""

    measure, usual, limit = "grad_zero", "below 0.9", 0.999

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("grad_zero", lambda layer: layer["grad_zero"] > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            f"Look at the layers from {found.layers[-1]} on: no gradient passes where neurons are silent, where potentials are outside the "
            "surrogate, or behind detach() and no_grad()."
        )


@register("rule", "exploding")
class ExplodingGradients(Rule):
    """The gradient grows from layer to layer, or through time, on its way to the input."""

    measure, usual, limit = "grad_ratio", "0.1 to 30", 100.0
    source = "Zenke and Vogels 2021 (second-hand)"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("grad_ratio", lambda layer: layer["grad_ratio"] > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        peak = 1 / e.mean("alpha") if e.mean("alpha") > 0 else math.nan
        if peak * max(1.0, e.mean("beta")) > 1.5:
            return _two_sigma(e, "Widen")
        settings = {"clip_grad": 1.0} if e.settings and not e.settings["clip_grad"] else {}
        return Remedy("Clip gradients at 1, or omit the gradient through the reset (--detach-reset).", settings)


@register("rule", "vanishing")
class VanishingGradients(Rule):
    """The gradient shrinks from layer to layer on its way to the input."""

    measure, usual, limit = "grad_ratio", "0.1 to 30", 1e-2
    source = "Fang et al. 2021 (SEW); Deng et al. 2022 (TET)"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("grad_ratio", lambda layer: layer["grad_ratio"] < limit, smallest=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if found.value == 0:
            return Remedy(
                f"No gradient arrives at {found.layers[0]}: look for no_grad(), detach(), and silent or frozen layers behind it."
            )
        settings = {"residual": "add"} if e.settings.get("residual") == "none" else {}
        settings = settings or ({"loss": "tet"} if e.settings.get("loss") == "ce" else {})
        return Remedy("Add residual connections, use fewer layers, or a loss at every timestep (tet).", settings)


@register("rule", "decay-at-bound")
class DecayAtBound(Rule):
    """The decay is 0 or 1: neurons forget everything, or nothing."""

    measure, usual, limit = "beta", "0.05 to 0.95", 0.03
    severity = "warning"
    source = "ASGL's code; spyx: an Adam optimiser of its own, 3e-4"

    def found(self, e: Evidence, limit: float) -> Found | None:
        low = e.where("beta", lambda layer: layer["beta"] < limit, smallest=True)
        return low or e.where("beta", lambda layer: layer["beta"] > 1 - limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        text = "Start from the usual decay, and give it an optimiser of its own, with a learning rate of 3e-4."
        return Remedy(text, e.back("decay_lr", 3) or e.back("decay", 2))


@register("rule", "decay-fast")
class DecayFast(Rule):
    """Decays change by much in each epoch, faster than the weights can follow."""

    measure, usual, limit = "beta", "changes below 0.05 an epoch", 0.1
    severity = "warning"
    source = "spyx: freeze it at first"

    def found(self, e: Evidence, limit: float) -> Found | None:
        changes = {}
        for name, lists in (e.history or {}).get("layers", {}).items():
            betas = [beta for beta in lists["beta"] if beta is not None]
            start = [e.settings["decay"]] if e.settings and not e.settings.get("init_from") else []
            steps = [abs(b - a) for a, b in itertools.pairwise([*start, *betas])]
            if steps and max(steps) > limit:
                changes[name] = max(steps)
        return Found(max(changes.values()), tuple(changes)) if changes else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Decrease the learning rate of the decays.", e.back("decay_lr", 2) or e.scaled("decay_lr", 0.1))


@register("rule", "drift")
class Drift(Rule):
    """The distribution of potentials shifts with the timesteps, so that one normalisation does not fit all of them."""

    measure, usual, limit = "drift.mean", "-1 to 1 v_th", 2.0
    severity = "warning"
    source = "MP-Init and TEBN, as in docs/zoo.md"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return e.where("drift.mean", lambda layer: abs(layer["drift"]["mean"]) > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = {} if not e.settings or e.settings["norm"] == "tebn" else {"norm": "tebn"}
        options = " (tebn), or start from measured potentials (--init-potential measured)" if e.settings else ""
        return Remedy(f"Normalise each timestep by its own statistics{options}.", settings)


@register("rule", "decay-unmoved")
class DecayUnmoved(Rule):
    """Decays are learned, but did not change."""

    measure, usual, limit = "beta", "changes by more than 0.001", 5e-4
    severity = "note"
    source = "docs/method.md"

    def found(self, e: Evidence, limit: float) -> Found | None:
        lists = (e.history or {}).get("layers", {})
        if not lists or not e.settings or e.settings["method"] == "none" or e.settings.get("init_from"):
            return None
        ends = [layer["beta"][-1] for layer in lists.values() if layer["beta"][-1] is not None]
        moved = max((abs(beta - e.settings["decay"]) for beta in ends), default=math.nan)
        return Found(moved) if moved < limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("In runs of fewer than 5,000 steps, train decays with a learning rate of 0.005.", {"decay_lr": 5e-3})


def _two_sigma(e: Evidence, verb: str) -> Remedy:
    width = 2 * e.mean("u_std") * e.flow["threshold"]
    method = e.settings.get("method")
    learned = {"method": "measured-sigma" if method == "lsg" else "lsg"}
    settings = {"width": float(f"{width:.2g}")} if method in TAKE_WIDTH and width > 0 else learned
    return Remedy(f"{verb} the surrogate to 2 standard deviations of u: a width of {width:.2g}.", settings)
