"""Rules on the measures of layers: scales, firing rates, surrogates, gradients and decays."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import value
from lsgcli.analysis.rules.base import Evidence, Found, MaybeFound, Remedy, Rule, rewritten
from lsgcli.config.neuron import TAKE_WIDTH
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

THRESHOLDS = "threshold|v_threshold|v_th|spike_threshold"  # names of arguments


@register("rule", "input-scale")
class InputScale(
    Rule,
    measure="input.std",
    usual="0.1 to 10",
    limit=10.0,
    source="spyx; snntorch, issue 219",
):
    """The input is not scaled, or has hardly any spikes, and no normalisation follows the first weights."""

    rarest = 0.03  # share of the entries of an input of spikes

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        std, potential = value(e.flow, "input.std"), value(e.layers[0], "u_std") if e.layers else None
        if std is not None and e.seen is not None:  # the mean over timesteps of spikes in time may be constant
            std = max(std, e.seen.trained_input.get("std", 0.0))
        spikes = math.nan if e.seen is None or not e.layers else e.seen.arriving
        # Of a feature in a timestep, where hardly any neuron fires, or in all timesteps.
        quiet = spikes < self.rarest and (
            spikes * e.flow["T"] < 10 * self.rarest or (e.start(e.layers[0]["name"]).get("firing_rate") or 0) < 0.02
        )
        if quiet and e.seen is not None and not e.seen.skill > 0.65:
            more = f"Multiply the rates that are encoded (the gain, or f_max) by {0.1 / max(spikes, 1e-4):.2g}."
            return Found(spikes, (e.layers[0]["name"],), "share of spikes in the input", advice=more)
        unequal = math.nan if e.seen is None else e.seen.trained_input.get("unequal", math.nan)
        if unequal > 5 * limit:
            each = "Standardise each feature by itself: (x - x.mean(0)) / x.std(0), with the moments of the training samples."
            return Found(unequal, measure="largest over median standard deviation of a feature", advice=each)
        if not std or potential is None or 1 / limit <= std <= limit:
            return None
        hidden = std < limit**-2 and e.seen is not None  # by a bias
        scaled = f"Divide the input by {std:.2g}, its standard deviation, or normalise the current of the first layer."
        return Found(std, (e.layers[0]["name"],), advice=scaled) if hidden or not 1 / limit <= potential <= limit else None


@register("rule", "initial-scale")
class InitialScale(
    Rule,
    measure="firing_rate",
    usual="0.02 to 0.3, and a gradient that reaches the first layer",
    limit=0.01,
    source="Shi and Yu 2026",
):
    """Nothing normalises the currents, and the weights that training started from let signal or gradient vanish or grow from layer to layer."""

    gradients = 1e-2, 1e2

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return _recovering(e, e.seen, limit)
        if e.settings.get("norm") != "none" or e.settings["init"] == "measured":
            return None
        if e.back("threshold", 2) or e.back("width", 5):  # these do not fit, rather than the weights
            return None

        def lost(layer: Mapping[str, Any]) -> bool:
            ratio = layer.get("grad_ratio") or 0
            rate = layer["firing_rate"]
            return bool(rate < limit or rate > SaturatedLayers.limit or not self.gradients[0] < ratio < self.gradients[1])

        return e.where("firing_rate", lost, smallest=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(f"{_rescaled(e, found.layers)}.", {"init": "measured"}, {"norm": "tdbn"})


@register("rule", "potential-scale")
class PotentialScale(
    Rule,
    measure="u_std",
    usual="1/3 to 3 v_th",
    limit=3.0,
    source="Rossbroich et al. 2022: xi from 1 to 3",
):
    """The scale of the weights does not fit the threshold: potentials are far from it, or far beyond it."""

    reach = 3.5  # standard deviations from the mean of u to the threshold
    largest = 10.0  # trained normalisation widens potentials up to here without harm

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        def far(layer: Mapping[str, Any]) -> bool:
            reach = (1 - (layer.get("u_mean") or 0)) / layer["u_std"] if layer["u_std"] else math.inf
            return bool(layer["u_std"] < 1 / limit and reach > self.reach)

        low = None if e.seen is not None else e.where("u_std", far, smallest=True, from_start=True)  # which is silent
        return low or e.where("u_std", lambda layer: layer["u_std"] > max(limit, self.largest), from_start=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        spread = value(e.start(found.layers[0]), "u_std") or 0.0
        settings = e.back("threshold", 2)
        if not settings and e.settings.get("norm") != "tdbn" and e.usual.get("norm") == "tdbn":
            settings = {"norm": "tdbn"}
        settings = settings or e.threshold(max(spread, 1e-3), found.layers)
        text = _rescaled(e, found.layers)
        first, threshold = found.layers[0], _threshold(e, found.layers[0])
        line = None if e.seen is None else e.seen.line_of(first)
        if threshold and line and re.search(THRESHOLDS, line.source):
            return Remedy(f"Change the threshold: {threshold}.")
        own_norm = e.settings.get("norm", "none") != "none"
        normalised = own_norm if e.seen is None else len(e.seen.momenta) >= len(e.layers)
        if normalised:
            text = f"Set the weight of the normalisation before {first} to {_own_threshold(e, first):.2g}, and its bias to 0"
        if e.settings and not settings:
            text = f"Check that the normalisation before {first} uses the statistics of each batch in training. {text}"
        return Remedy(f"{text}, or change the threshold: {threshold}." if threshold else f"{text}.", settings)


@register("rule", "silent")
class SilentLayers(
    Rule,
    measure="firing_rate",
    usual="0.02 to 0.3",
    limit=0.01,
    source="stork; spyx: 5 to 15 %",
):
    """Neurons hardly ever reach the threshold, so that later layers receive nothing."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        now = e.where("firing_rate", lambda layer: (layer.get("firing_rate") or 0) < limit, smallest=True, from_start=True)
        if not now and e.seen is not None:  # they died in training
            least = 1e-6 if e.progresses else limit / 5
            now = e.where("firing_rate", lambda layer: (layer.get("firing_rate") or 0) < least, smallest=True)
        if now or e.seen is None or e.learned or e.seen.outputs is None or not e.layers:
            return now
        *_, last = e.seen.layers.values()
        begins, ends = (value(layer, "firing_rate") for layer in (e.seen.first.get(last.name, {}), e.layers[-1]))
        read = last.shape[-1:] == e.seen.outputs.values.shape[1:] and last.name == e.layers[-1]["name"]
        dead = read and begins is not None and ends is not None and begins < limit and ends < 5 * limit
        return Found(begins, (last.name,), "firing_rate in the first step") if dead else None  # which later steps hardly change

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("threshold", 1.5) or e.threshold(0.5, found.layers)
        first = found.layers[0]
        normalised = f"Double the weight of the normalisation before {first}, and check that its bias is not far below 0."
        threshold = _threshold(e, first, lower=True)
        smaller = f"Lower the threshold: {threshold}." if threshold else f"{_rescaled(e, found.layers)}."
        return Remedy(smaller if settings or not e.settings else normalised, settings)


@register("rule", "saturated")
class SaturatedLayers(
    Rule,
    measure="firing_rate",
    usual="0.02 to 0.3",
    limit=0.6,
    source="snntorch, issue 66",
):
    """Neurons fire at almost every timestep, so that spikes carry no information."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        return e.where("firing_rate", lambda layer: layer["firing_rate"] > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("threshold", 1.5)
        if not settings and e.settings and e.settings["decay"] > 2 * e.usual["decay"]:
            settings = {"decay": e.usual["decay"]} | ({"input_gain": "1-beta"} if e.mean("beta") > 0.5 else {})
        if not settings and e.settings and e.mean("beta") > 0.5 and e.settings["input_gain"] == "1":
            settings = {"input_gain": "1-beta"}
        threshold = _threshold(e, found.layers[0], lower=False)
        text = f"Raise the threshold: {threshold}." if threshold else "Decrease the decay, or scale the current by 1 - beta."
        return Remedy(text, settings or e.threshold(2, found.layers))


@register("rule", "narrow-window")
class NarrowWindow(
    Rule,
    measure="coverage",
    usual="0.2 to 0.8",
    limit=0.1,
    least="warning",
    source="Lian et al. 2023, Table 2; 2 sigma: Theorem 1",
):
    """The surrogate is zero at almost all potentials, so that almost no gradient passes."""

    thinnest = 0.01  # standard deviations of u

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        def narrow(layer: Mapping[str, Any]) -> bool:
            share, zero, std = layer.get("coverage", 1.0), layer.get("grad_zero") or 0, layer.get("u_std") or 0
            relative = (
                layer.get("alpha", math.inf) / (std * e.flow["threshold"]) if 0 < std < PotentialScale.largest else math.inf
            )
            few = share < limit / 100 or (share < limit and zero > 1 - 2 * limit)
            # Where neurons are silent, it is the mean or the scale of potentials that is wrong.
            return bool((relative < self.thinnest or (few and relative < 1)) and not _silent(layer))

        return e.where("coverage", narrow, smallest=True, from_start=True)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return _two_sigma(e, found.layers)


@register("rule", "wide-window")
class WideWindow(
    Rule,
    measure="alpha",
    usual="1 to 4 standard deviations of u",
    limit=4.0,
    alone=True,
    source="Lian et al. 2023, Table 2: widths 5 and 10 give 61.5 and 30.8 instead of 92.7 %",
):
    """The surrogate is much wider than the distribution of potentials, so that its gradient says little about spikes."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        quiet = any(_silent(layer) for layer in e.layers)

        def wide(layer: Mapping[str, Any]) -> bool:
            std, factor = layer.get("u_std"), 100 if quiet else 2 * limit
            return bool(std and not _silent(layer) and layer["alpha"] > factor * std * e.flow["threshold"])

        return e.where("alpha", wide)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return _two_sigma(e, found.layers)


@register("rule", "blocked")
class Blocked(
    Rule,
    measure="grad_zero",
    usual="below 0.9",
    limit=0.999,
    advice="Look behind the last of these layers: no gradient passes silent neurons, potentials outside the surrogate, detach() and no_grad().",
):
    """The gradient of the potentials is exactly zero at almost all neurons, so that the weights before them hardly change."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        return e.where("grad_zero", lambda layer: layer["grad_zero"] > limit)


@register("rule", "exploding")
class ExplodingGradients(
    Rule,
    measure="grad_ratio",
    usual="0.1 to 30",
    limit=100.0,
    source="Zenke and Vogels 2021 (second-hand)",
):
    """The gradient grows from layer to layer, or through time, on its way to the input."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        return e.where("grad_ratio", lambda layer: layer["grad_ratio"] > limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        peak = 1 / e.mean("alpha") if e.mean("alpha") > 0 else math.nan
        if peak * max(1.0, e.mean("beta")) > 1.5 and e.mean("alpha") < _width(e):
            return _two_sigma(e)
        settings = {"clip_grad": 1.0} if e.settings and not e.settings["clip_grad"] else {}
        return Remedy("Clip gradients at 1, or omit the gradient through the reset (--detach-reset).", settings)


@register("rule", "vanishing")
class VanishingGradients(
    Rule,
    measure="grad_ratio",
    usual="0.1 to 30",
    limit=1e-2,
    source="Fang et al. 2021 (SEW); Deng et al. 2022 (TET)",
):
    """The gradient shrinks from layer to layer on its way to the input."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
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
class DecayAtBound(
    Rule,
    measure="beta",
    usual="0.05 to 0.95",
    limit=0.03,
    severity="warning",
    source="ASGL's code; spyx: an Adam optimiser of its own, 3e-4",
):
    """The decay is 0 or 1: neurons forget everything, or nothing."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        low = e.where("beta", lambda layer: layer["beta"] < limit, smallest=True)
        high = 1 - limit if e.seen is None else math.inf  # neurons without a leak are usual
        return low or e.where("beta", lambda layer: layer["beta"] > high)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if e.seen is not None:
            return Remedy(
                "Use a decay near 0.9, with time constant and timestep in the same unit: exp(-dt / tau) for dt of a tenth of tau."
            )
        text = "Start from the usual decay, and give it an optimiser of its own, with a learning rate of 3e-4."
        return Remedy(text, e.back("decay_lr", 3) or e.back("decay", 2))


@register("rule", "decay-fast")
class DecayFast(
    Rule,
    measure="beta",
    usual="changes below 0.05 an epoch",
    limit=0.1,
    severity="warning",
    source="spyx: freeze it at first",
):
    """Decays change by much in each epoch, faster than the weights can follow."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
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
class Drift(
    Rule,
    measure="drift.mean",
    usual="-1 to 1 v_th",
    limit=2.0,
    severity="warning",
    source="MP-Init and TEBN, as in docs/zoo.md",
):
    """The distribution of potentials shifts with the timesteps, so that one normalisation does not fit all of them."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        # Of a script, it was a symptom of what other rules say, or did no harm.
        return e.where("drift.mean", lambda layer: abs(layer["drift"]["mean"]) > limit) if e.seen is None else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = {} if not e.settings or e.settings["norm"] == "tebn" else {"norm": "tebn"}
        options = (
            " (tebn), or start from measured potentials (--init-potential measured)"
            if e.settings
            else ", decrease the decay, and check that spikes reset the potential"
        )
        return Remedy(f"Normalise each timestep by its own statistics{options}.", settings)


def _recovering(e: Evidence, seen: "Seen", limit: float) -> MaybeFound:
    """Layers of a script without normalisation that were silent before its first step, and fire now, where little is learned."""
    rates = {name: value(layer, "firing_rate") or 0.0 for name, layer in seen.first.items()}
    silent = [name for name, rate in rates.items() if rate < limit]
    if not seen.skill < 0.65 or seen.momenta or len(silent) < 2:
        return None
    if SilentLayers().found(e, limit) or PotentialScale().found(e, PotentialScale.limit):
        return None
    return Found(rates[silent[-1]], tuple(silent), "firing_rate in the first step")


def _rescaled(e: Evidence, names: Sequence[str]) -> str:
    """A remedy: factors on the initial weights of layers, with which their inputs and they fire at a rate of about 0.1."""
    moments, named, before = e.flow.get("input") or {}, [], None
    size = math.hypot(moments.get("mean") or 0, moments.get("std") or 0)
    for layer in e.layers if e.seen is None else e.seen.first.values():
        name, rate = layer["name"], value(layer, "firing_rate") or 0.0
        if e.seen is None or rate:
            factor = _factor(e, name) * (1 if before is None else math.sqrt(before / 0.1))
        else:  # potentials may be those of a bias: from the weights
            factor = 1.26 / (size * e.seen.spreads.get(name, 0) or math.inf)
        if name in names and 1e-3 < factor < 1e3:
            named.append(f"{name} x {factor:.2g}")
        before, size = rate, math.sqrt(0.1)
    factors = ", ".join(named) or "until each fires at a rate of 0.1"
    return f"Scale the initial weights before these neurons, {factors}, or normalise their currents (tdBN)"


def _silent(layer: Mapping[str, Any]) -> bool:
    rate = layer.get("firing_rate")
    return rate is not None and rate < SilentLayers.limit


def _factor(e: Evidence, name: str) -> float:
    """The factor on the potentials of a layer at which a tenth of them reach the threshold; infinite where they are 0 or below it."""
    layer = e.start(name)
    reached = (layer.get("u_mean") or 0) + 1.3 * (layer.get("u_std") or 0)
    return 1 / reached if reached > 0 else math.inf


def _own_threshold(e: Evidence, name: str) -> float:
    """The threshold of a layer."""
    return float(e.flow["threshold"] if e.seen is None else e.seen.thresholds.get(name, e.flow["threshold"]))


def _threshold(e: Evidence, name: str, lower: bool | None = None) -> str:
    """The threshold of a layer, and a ``lower`` or higher one that a tenth of its neurons would reach; empty where potentials are too far from it."""
    own = _own_threshold(e, name)
    reached = own / _factor(e, name)
    if lower is not None and lower != (reached < own):
        return ""
    if not 1e-3 < reached / own < 100 or 0.9 < reached / own < 1.1:
        return ""
    line = None if e.seen is None else e.seen.line_of(name)
    return f"{rewritten(line, THRESHOLDS, own, reached)}, which a tenth of the potentials reach"


def _width(e: Evidence, names: Sequence[str] = ()) -> float:
    return 2 * e.mean("u_std", names) * float(e.flow["threshold"])


def _two_sigma(e: Evidence, names: Sequence[str] = ()) -> Remedy:
    """The width of 2 standard deviations of u, by comparison with that of some layers."""
    width, own = _width(e, names), e.mean("alpha", names)
    method = e.settings.get("method")
    settings: dict[str, Any] = {"method": "measured-sigma" if method == "lsg" else "lsg"}
    if not (own > 0 and 1e-3 < width < 1e3):  # or a state of which no size follows
        return Remedy("Use a surrogate as wide as the distribution of u.", settings)
    if method in TAKE_WIDTH:
        settings = {"width": float(f"{width:.2g}")}
    verb, factor = ("Widen", "divide") if width > own else ("Narrow", "multiply")
    ratio = max(width, own) / min(width, own)
    slope = "" if e.settings else f" ({factor} its slope, or alpha, by {ratio:.2g})"
    return Remedy(f"{verb} the surrogate from {own:.2g} to {width:.2g}, 2 standard deviations of u{slope}.", settings)
