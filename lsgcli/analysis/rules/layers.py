"""Rules on the measures of layers: scales, firing rates, surrogates, gradients and decays."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import value
from lsgcli.analysis.rules.base import Edit, Evidence, Found, MaybeFound, Rule, few, rewritten, rounded
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
        if not e.layers:
            return None
        first = e.layers[0]["name"]
        potential = e.layers[0].get("u_std")
        std = value(e.flow, "input.std") or 0.0
        hidden = False
        if e.seen is not None:
            spikes = e.seen.arriving
            unequal = e.seen.trained_input.get("unequal", 0.0)
            # Of a feature in all timesteps, or where hardly any neuron fires.
            rare = spikes * e.flow["T"] < 10 * self.rarest or _rate(e.start(first)) < 0.02
            if spikes < self.rarest and rare and not e.seen.skill > 0.65:
                more = f"Multiply the rates that are encoded (the gain, or f_max) by {rounded(0.1 / max(spikes, 1e-4))}."
                return Found(spikes, (first,), "share of spikes in the input", advice=more)
            if unequal > 5 * limit:
                each = (
                    "Standardise each feature by itself: (x - x.mean(0)) / x.std(0), with the moments of the training samples."
                )
                return Found(unequal, measure="largest over median standard deviation of a feature", advice=each)
            std = max(std, e.seen.trained_input.get("std", 0.0))  # the mean over timesteps of spikes in time may be constant
            hidden = std < limit**-2  # by a bias
        if not std or potential is None or _within(std, limit) or (_within(potential, limit) and not hidden):
            return None
        scaled = f"Divide the input by {rounded(std)}, its standard deviation, or normalise the current of the first layer."
        return Found(std, (first,), advice=scaled)


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
        found = self._of_run(e, limit) if e.seen is None else self._in_script(e, e.seen, limit)
        if found is None:
            return None
        advice = f"{_rescaled(e, found.layers)}."
        return found._replace(advice=advice, settings={"init": "measured"}, alternative={"norm": "tdbn"})

    def _of_run(self, e: Evidence, limit: float) -> MaybeFound:
        if e.settings.get("norm") != "none" or e.settings["init"] == "measured":
            return None
        if e.back("threshold", 2) or e.back("width", 5):  # these do not fit, rather than the weights
            return None

        def lost(layer: Mapping[str, Any]) -> bool:
            vanishes, explodes = self.gradients
            fires = limit <= layer["firing_rate"] <= SaturatedLayers.limit
            return not (fires and vanishes < (layer.get("grad_ratio") or 0) < explodes)

        return e.where("firing_rate", lost, smallest=True)

    def _in_script(self, e: Evidence, seen: "Seen", limit: float) -> MaybeFound:
        """Layers that were silent before the first step, and fire now, where little is learned."""
        silent = [name for name, layer in seen.first.items() if _rate(layer) < limit]
        if not seen.skill < 0.65 or seen.momenta or len(silent) < 2:
            return None
        if SilentLayers().found(e, limit):  # which still are
            return None
        return Found(_rate(seen.first[silent[-1]]), tuple(silent), "firing_rate in the first step")


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

        found = None if e.seen is not None else e.where("u_std", far, smallest=True)  # which is silent
        found = found or e.where("u_std", lambda layer: layer["u_std"] > max(limit, self.largest), from_start=True)
        if found is None:
            return None
        settings = e.back("threshold", 2)
        if not settings and e.settings.get("norm") != "tdbn" and e.usual.get("norm") == "tdbn":
            settings = {"norm": "tdbn"}
        spread = e.start(found.layers[0]).get("u_std") or 0.0
        settings = settings or e.threshold(max(spread, 1e-3), found.layers)
        return _scaled(e, found._replace(settings=settings))


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
        found = e.where("firing_rate", lambda layer: _rate(layer) < limit, smallest=True, from_start=True)
        if not found and e.seen is not None:  # they died in training
            least = 1e-6 if e.progresses else limit / 5
            found = e.where("firing_rate", lambda layer: _rate(layer) < least, smallest=True)
        if found is None:
            return None
        settings = e.back("threshold", 1.5) or e.threshold(0.5, found.layers)
        return _scaled(e, found._replace(settings=settings), 1.0)


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
        found = e.where("firing_rate", lambda layer: layer["firing_rate"] > limit)
        if found is None:
            return None
        settings = e.back("threshold", 1.5)
        if e.settings and not settings:
            if e.settings["decay"] > 2 * e.usual["decay"]:
                settings["decay"] = e.usual["decay"]
            if e.mean("beta") > 0.5 and e.settings["input_gain"] == "1":
                settings["input_gain"] = "1-beta"
        advice = "Decrease the decay, or scale the current by 1 - beta."
        thresholds = _thresholds(e, found.layers, 100.0)
        if thresholds and _reached(e, found.layers[0]) > 1:
            advice = f"Raise the threshold: {_listed(thresholds)}."
        return found._replace(advice=advice, settings=settings or e.threshold(2, found.layers), edits=thresholds)


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
        if PotentialScale().found(e, PotentialScale.limit) and not e.back("width", 5):
            return None  # potentials do not fit, rather than the surrogate

        def narrow(layer: Mapping[str, Any]) -> bool:
            std = layer.get("u_std") or 0
            share = layer.get("coverage", 1.0)
            # Otherwise it is the mean or the scale of potentials that is wrong.
            if _silent(layer) or not 0 < std < PotentialScale.largest:
                return False
            relative = layer.get("alpha", math.inf) / (std * e.flow["threshold"])
            few = share < limit / 100 or (share < limit and (layer.get("grad_zero") or 0) > 1 - 2 * limit)
            return bool(relative < self.thinnest or (few and relative < 1))

        found = e.where("coverage", narrow, smallest=True, from_start=True)
        return found and _two_sigma(e, found, found.layers)


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
        factor = 100 if any(_silent(layer) for layer in e.layers) else 2 * limit

        def wide(layer: Mapping[str, Any]) -> bool:
            std = layer.get("u_std")
            return bool(std and not _silent(layer) and layer["alpha"] > factor * std * e.flow["threshold"])

        found = e.where("alpha", wide)
        return found and _two_sigma(e, found, found.layers)


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
    advice="Clip gradients at 1, or omit the gradient through the reset (--detach-reset).",
):
    """The gradient grows from layer to layer, or through time, on its way to the input."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        found = e.where("grad_ratio", lambda layer: layer["grad_ratio"] > limit)
        clipped = {} if e.settings.get("clip_grad") else {"clip_grad": 1.0}
        alpha = e.mean("alpha")
        # A surrogate with a peak of 1 / alpha above 1 amplifies the gradient in each layer and timestep.
        if found and 0 < 1.5 * alpha < max(1.0, e.mean("beta")) and alpha < 2 * e.mean("u_std") * e.flow["threshold"]:
            return _two_sigma(e, found)._replace(alternative=clipped)
        return found and found._replace(settings=clipped)


@register("rule", "vanishing")
class VanishingGradients(
    Rule,
    measure="grad_ratio",
    usual="0.1 to 30",
    limit=1e-2,
    source="Fang et al. 2021 (SEW); Deng et al. 2022 (TET)",
    advice="Add residual connections, use fewer layers, or a loss at every timestep (tet).",
):
    """The gradient shrinks from layer to layer on its way to the input."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        found = e.where("grad_ratio", lambda layer: layer["grad_ratio"] < limit, smallest=True)
        if found is not None and found.value == 0:
            look = f"No gradient arrives at {found.layers[0]}: look for no_grad(), detach(), and silent or frozen layers behind it."
            return found._replace(advice=look)
        settings = {"loss": "tet"} if e.settings.get("loss") == "ce" else {}
        return found and found._replace(settings={"residual": "add"} if e.settings.get("residual") == "none" else settings)


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
        found = e.where("beta", lambda layer: layer["beta"] < limit, smallest=True)
        advice = (
            "Use a decay near 0.9, with time constant and timestep in the same unit: exp(-dt / tau) for dt of a tenth of tau."
        )
        if e.seen is None:  # in scripts, neurons without a leak are usual
            found = found or e.where("beta", lambda layer: layer["beta"] > 1 - limit)
            advice = "Start from the usual decay, and give it an optimiser of its own, with a learning rate of 3e-4."
        return found and found._replace(advice=advice, settings=e.back("decay_lr", 3) or e.back("decay", 2))


@register("rule", "decay-fast")
class DecayFast(
    Rule,
    measure="beta",
    usual="changes below 0.05 an epoch",
    limit=0.1,
    severity="warning",
    source="spyx: freeze it at first",
    advice="Decrease the learning rate of the decays.",
):
    """Decays change by much in each epoch, faster than the weights can follow."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        start = [e.settings["decay"]] if e.settings and not e.settings.get("init_from") else []
        changes = {}
        for name, measures in (e.history or {}).get("layers", {}).items():
            betas = [*start, *(beta for beta in measures["beta"] if beta is not None)]
            largest = max((abs(after - before) for before, after in itertools.pairwise(betas)), default=0.0)
            if largest > limit:
                changes[name] = largest
        settings = e.back("decay_lr", 2) or e.scaled("decay_lr", 0.1)
        return Found(max(changes.values()), tuple(changes), settings=settings) if changes else None


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
        if e.seen is not None:  # a symptom of what other rules say, or without harm
            return None
        found = e.where("drift.mean", lambda layer: abs(layer["drift"]["mean"]) > limit)
        options = ", decrease the decay, and check that spikes reset the potential"
        if e.settings:
            options = " (tebn), or start from measured potentials (--init-potential measured)"
        settings = {} if e.settings.get("norm") == "tebn" else {"norm": "tebn"}
        return found and found._replace(advice=f"Normalise each timestep by its own statistics{options}.", settings=settings)


def _rate(layer: Mapping[str, Any]) -> float:
    return layer.get("firing_rate") or 0.0


def _silent(layer: Mapping[str, Any]) -> bool:
    return layer.get("firing_rate") is not None and _rate(layer) < SilentLayers.limit


def _within(number: float, limit: float) -> bool:
    return 1 / limit <= number <= limit


def _factors(e: Evidence) -> dict[str, float]:
    """For each layer, the factor on the initial weights before it with which its inputs and it fire at a rate of about 0.1."""
    moments = e.flow.get("input") or {}
    factors = {}
    before = None
    size = math.hypot(moments.get("mean") or 0, moments.get("std") or 0)
    for layer in e.layers if e.seen is None else e.seen.first.values():
        name = layer["name"]
        rate = _rate(layer)
        if e.seen is None or rate:
            factors[name] = math.sqrt(1 if before is None else before / 0.1) / (_reached(e, name) or math.inf)
        else:  # potentials may be those of a bias: from the weights
            factors[name] = 1.26 / (size * e.seen.spreads.get(name, 0) or math.inf)
        before = rate
        size = math.sqrt(0.1)
    return factors


def _rescaled(e: Evidence, names: Sequence[str]) -> str:
    """A remedy: factors on the initial weights of layers."""
    named = [f"{name} x {rounded(factor)}" for name, factor in _factors(e).items() if name in names and 1e-3 < factor < 1e3]
    factors = ", ".join(named) or "until each fires at a rate of 0.1"
    return f"Scale the initial weights before these neurons, {factors}, or normalise their currents (tdBN)"


def _reached(e: Evidence, name: str) -> float:
    """What a tenth of the potentials of a layer reach, in units of the threshold; 0 where they are below 0."""
    layer = e.start(name)
    return max(0.0, (layer.get("u_mean") or 0) + 1.3 * (layer.get("u_std") or 0))


def _own_threshold(e: Evidence, name: str) -> float:
    """The threshold of a layer."""
    return float(e.flow["threshold"] if e.seen is None else e.seen.thresholds.get(name, e.flow["threshold"]))


def _thresholds(e: Evidence, names: Sequence[str], most: float) -> tuple[Edit, ...]:
    """Thresholds of layers that a tenth of their neurons would reach, up to ``most`` times as high; empty where the first would be nearly the same.

    Layers behind the first receive spikes only once that fires: their thresholds follow from their weights.
    """
    edits: list[Edit] = []
    factors = _factors(e)
    for name in names:
        reached = _reached(e, name)
        if edits and e.seen is not None and not _rate(e.start(name)):
            reached = 1 / (factors.get(name) or math.inf)
        own = _own_threshold(e, name)
        if not 1e-3 < reached < most or 0.9 < reached < 1.1:
            if not edits:
                return ()
            continue
        line = None if e.seen is None else e.seen.line_of(name)
        edits.append(rewritten(line, THRESHOLDS, own, own * reached))
    return tuple(edits)


def _listed(thresholds: Sequence[Edit]) -> str:
    """Changes of thresholds in words, those of one line once."""
    return f"{few(list(dict.fromkeys(map(str, thresholds))))}, which a tenth of the potentials reach"


def _scaled(e: Evidence, found: Found, most: float = 100.0) -> Found:
    """A finding with a remedy: other thresholds, up to ``most`` times as high, or other weights before these neurons."""
    first = found.layers[0]
    thresholds = _thresholds(e, found.layers, most)
    ways = []
    if thresholds:
        ways.append(f"Change the threshold: {_listed(thresholds)}")
    own_norm = e.settings.get("norm", "none") != "none"
    if own_norm if e.seen is None else len(e.seen.momenta) >= len(e.layers):
        norm = f"Set the weight of the normalisation before {first} to {rounded(_own_threshold(e, first))}, and its bias to 0"
        ways.append(f"{norm}, and check that it uses the statistics of each batch in training")
    else:
        ways.append(_rescaled(e, found.layers))
    return found._replace(advice=f"{'. Or: '.join(ways)}.", edits=thresholds)


def _two_sigma(e: Evidence, found: Found, layers: Sequence[str] = ()) -> Found:
    """A finding with the width of 2 standard deviations of u, by comparison with that of some layers, by default all."""
    width = 2 * e.mean("u_std", layers) * float(e.flow["threshold"])
    own = e.mean("alpha", layers)
    method = e.settings.get("method")
    settings: dict[str, Any] = {"method": "measured-sigma" if method == "lsg" else "lsg"}
    if not (own > 0 and 1e-3 < width < 1e3):  # or a state of which no size follows
        return found._replace(advice="Use a surrogate as wide as the distribution of u.", settings=settings)
    if method in TAKE_WIDTH:
        settings = {"width": float(f"{width:.2g}")}
    verb, factor = ("Widen", "divide") if width > own else ("Narrow", "multiply")
    slope = "" if e.settings else f" ({factor} its slope, or alpha, by {rounded(max(width / own, own / width))})"
    advice = f"{verb} the surrogate from {rounded(own)} to {rounded(width)}, 2 standard deviations of u{slope}."
    return found._replace(advice=advice, settings=settings)
