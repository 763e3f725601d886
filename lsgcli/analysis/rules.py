"""Rules that find what is wrong with a network: a measure outside its usual range, the cause, and what to change.

A rule is a class registered under a name. It reads an :class:`Evidence` and changes nothing; :mod:`lsgcli.analysis.advice` applies all
rules. Rules are in the order of causes: a finding is often the cause of those of later rules. Limits are ours unless ``source`` names
another. Imports no torch.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from lsgcli.analysis.measures import value
from lsgcli.registry import register

SEVERITIES = ("error", "warning", "note")
SMALLEST_CLIP = 0.01  # norm of gradients
LEARNED = 0.85  # accuracy above which what rules find is a note
_places = itertools.count()
OURS = "ours"


class Remedy(NamedTuple):
    """What to change: in words, and as settings of ``lsg train``, if settings can do it. Of a network without a run, settings do not count."""

    text: str
    settings: Mapping[str, Any] = {}


class Found(NamedTuple):
    """Where a measure is outside its usual range.

    Attributes:
        value: of the measure, the farthest of all layers.
        layers: names of the layers, in order; none if the finding concerns the whole network.
        measure: the measure, if it is not that of the rule.
    """

    value: Any
    layers: tuple[str, ...] = ()
    measure: str = ""


@dataclass(frozen=True)
class Evidence:
    """Input of the rules.

    Attributes:
        flow: gradient-flow record of the network.
        settings: of its run; empty for a network without a run.
        usual: the settings of a run of the same data set, in which nothing else is given.
        epochs: the records of metrics.jsonl so far.
        history: decay, width and coverage of each layer at each epoch.
        classes: number of classes; 0 if unknown.
        diverged: whether training ended with a loss or gradient that is not finite.
    """

    flow: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, Any]] = ()
    history: Mapping[str, Any] | None = None
    classes: int = 0
    diverged: bool = False

    @property
    def layers(self) -> Sequence[Mapping[str, Any]]:
        """Records of the layers, from the input."""
        layers: Sequence[Mapping[str, Any]] = self.flow["layers"]
        return layers

    def where(self, key: str, outside: Callable[[Mapping[str, Any]], bool], *, smallest: bool = False) -> Found | None:
        """The layers with a measure ``key`` whose records are outside; the value is the smallest or largest of theirs."""
        known = [(layer, number) for layer in self.layers if (number := value(layer, key)) is not None]
        found = {layer["name"]: number for layer, number in known if outside(layer)}
        return Found((min if smallest else max)(found.values()), tuple(found), key) if found else None

    def mean(self, key: str, names: Sequence[str] = ()) -> float:
        """Mean of a measure over layers, by default all; NaN if none has it."""
        numbers = [value(layer, key) for layer in self.layers if not names or layer["name"] in names]
        numbers = [number for number in numbers if number is not None]
        return sum(numbers) / len(numbers) if numbers else math.nan

    @property
    def chance(self) -> float:
        """Cross-entropy of equal probabilities, log(classes); NaN if the number of classes is unknown."""
        return math.log(self.classes) if self.classes > 1 else math.nan

    def last(self, key: str) -> float:
        """A number of the last epoch; NaN if there is none."""
        number = self.epochs[-1].get(key) if self.epochs else None
        return math.nan if number is None else float(number)

    @property
    def learned(self) -> bool:
        """Whether the network classifies most samples correctly, in training and in evaluation."""
        return min(self.last("train_accuracy"), self.last("val_accuracy")) > LEARNED

    @property
    def learns_poorly(self) -> bool:
        """Whether the training loss ended above half of that of equal probabilities, or is unknown."""
        return not self.last("train_loss") < self.chance / 2

    def back(self, name: str, factor: float) -> dict[str, Any]:
        """The usual value of a setting that differs from it by more than a factor, as settings; otherwise empty."""
        own, usual = self.settings.get(name), self.usual.get(name)
        return {name: usual} if own and usual and _off_by_a_factor(own, usual, factor) else {}

    def threshold(self, factor: float, names: Sequence[str]) -> dict[str, Any]:
        """The threshold times a factor, as settings; empty where the normalisation of these layers scales their currents with it."""
        scales = self.settings.get("norm") in ("tdbn", "tebn") and "hidden" not in names
        return {} if scales else self.scaled("threshold", factor)

    def scaled(self, name: str, factor: float, digits: int = 2) -> dict[str, Any]:
        """A setting times a factor, rounded, as settings; empty without a run."""
        own = self.settings.get(name)
        return {} if own is None else {name: float(f"{own * factor:.{digits}g}")}


class Rule(ABC):
    """A rule. The class's documentation is the cause, in one sentence.

    Attributes:
        measure: the measure it reads: a field of the gradient-flow record, of metrics.jsonl, or a setting.
        usual: its usual range, in words.
        limit: the threshold, which ``--limit NAME=X`` replaces.
        severity: ``error``: the network hardly learns; ``warning``: it learns worse than it could; ``note``: worth a look.
        source: where limit and remedy come from.
        alone: whether the rule applies only if no error was found before.
        place: in the order of causes, which is that of the definitions.
    """

    place: ClassVar[int]
    measure: ClassVar[str]
    usual: ClassVar[str]
    limit: ClassVar[float]
    severity: ClassVar[str] = "error"
    source: ClassVar[str] = OURS
    alone: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.place = next(_places)

    @abstractmethod
    def found(self, e: Evidence, limit: float) -> Found | None:
        """Where the measure is outside its usual range; None if it is not."""

    @abstractmethod
    def remedy(self, e: Evidence, found: Found) -> Remedy:
        """What to change."""


@register("rule", "not-finite")
class NotFinite(Rule):
    """Weights, potentials or gradients grew until they were not finite."""

    measure, usual, limit = "loss", "finite", math.inf
    source = "spyx: learning rate / 10, gradients clipped at 1"

    def found(self, e: Evidence, limit: float) -> Found | None:
        broken = tuple(layer["name"] for layer in e.layers if value(layer, "u_mean") is None)
        return Found(None, broken) if e.diverged or broken or (e.layers and e.flow.get("loss") is None) else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if not e.settings:
            return Remedy("Divide the learning rate by 10, and clip gradients to a norm of 1.")
        own, usual, unclipped = e.settings["lr"], e.usual["lr"], not e.settings["clip_grad"]
        default = f", where {e.settings['dataset']} has {usual:g} by default" if own > usual else ""
        text = (
            f"Likely cause: a learning rate of {own:g}{default}{', and gradients that are not clipped' if unclipped else ''}."
        )
        return Remedy(text, {"lr": min(usual, float(f"{own / 10:.2g}"))} | ({"clip_grad": 1.0} if unclipped else {}))


@register("rule", "batch-dependent")
class BatchDependent(Rule):
    """The output for a sample depends on the other samples of its batch, or on earlier calls: a state is not reset, or time and batch axes are mixed up."""

    measure, usual, limit = "batch_invariant", "true", 0.0
    source = "spikingjelly, issues 318 and 594"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return Found(False) if e.flow.get("batch_invariant") is False else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Reset all neurons before each batch, in training and evaluation, and check the order of axes: (T, B, ...)."
        )


@register("rule", "labels")
class Labels(Rule):
    """The loss is low, but accuracy is below chance: the loss and the accuracy use different labels."""

    measure, usual, limit = "train_accuracy", "above 1 / classes", 0.5

    def found(self, e: Evidence, limit: float) -> Found | None:
        accuracy, loss = e.last("train_accuracy"), e.last("train_loss")
        return Found(accuracy) if e.classes and loss < limit * e.chance and accuracy < 1 / e.classes else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Use the same labels, from 0 to classes - 1, in the loss and in the accuracy.")


@register("rule", "learning-rate")
class LearningRate(Rule):
    """The learning rate is far from what this data set is usually trained with, and the network does not learn."""

    measure, usual, limit = "lr", "within a factor of 5 of the data set's default", 5.0
    source = "spikingjelly, issue 338"

    def found(self, e: Evidence, limit: float) -> Found | None:
        return Found(e.settings["lr"]) if e.learns_poorly and e.epochs and e.back("lr", limit) else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(f"Train with a learning rate of {e.usual['lr']:g}.", {"lr": e.usual["lr"]})


def _off_by_a_factor(own: float, usual: float, limit: float) -> bool:
    return not usual or not 1 / limit <= own / usual <= limit


def _off_by_a_half(own: float, usual: float, limit: float) -> bool:
    return abs(own - usual) > 0.5


@register("rule", "unusual-settings")
class UnusualSettings(Rule):
    """The network does not learn, with settings of training or data that are far from those usual for the data set."""

    measure, usual, limit = "settings", "within a factor of 10 of the data set's defaults", 10.0
    far: Mapping[str, Callable[[Any, Any, float], bool]] = {  # of a value, the usual value, and the limit
        "weight_decay": _off_by_a_factor,
        "momentum": _off_by_a_half,
        "clip_grad": lambda own, usual, limit: 0 < own < SMALLEST_CLIP,  # 0: not clipped
        "dropout": _off_by_a_half,
        "label_smoothing": _off_by_a_half,
        "batch_size": _off_by_a_factor,
        "decay_lr": _off_by_a_factor,
        "schedule": lambda own, usual, limit: True,
        "slicing": lambda own, usual, limit: True,
    }

    def _far(self, e: Evidence, limit: float) -> dict[str, Any]:
        pairs = {name: (e.settings.get(name), e.usual.get(name)) for name in self.far}
        changed = {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
        return {name: usual for name, (own, usual) in changed.items() if self.far[name](own, usual, limit)}

    def found(self, e: Evidence, limit: float) -> Found | None:
        if not e.epochs or not e.learns_poorly or e.last("val_accuracy") > LEARNED:
            return None
        far = self._far(e, limit)
        return Found(", ".join(f"{name} {_written(e.settings[name])}" for name in far)) if far else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        back = self._far(e, self.limit)
        names = ", ".join(f"{name} {_written(usual)}" for name, usual in back.items())
        return Remedy(f"Return to the defaults of the data set: {names}.", back)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@register("rule", "small-batch")
class SmallBatch(Rule):
    """Normalisation computes its statistics from too few samples."""

    measure, usual, limit = "batch_size", "at least 16", 8.0
    source = "spikingjelly, issue 157"

    def found(self, e: Evidence, limit: float) -> Found | None:
        size = e.settings.get("batch_size", math.inf) / e.settings.get("accumulate", 1)
        return Found(size) if size < limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = {"batch_size": max(16, e.usual["batch_size"])} if e.settings["batch_size"] < 16 else {}
        settings |= {"accumulate": 1} if e.settings["accumulate"] > 1 else {}
        return Remedy("Use larger batches, of which normalisation computes its statistics.", settings)


@register("rule", "running-statistics")
class RunningStatistics(Rule):
    """The running statistics of normalisation are not those of the data: too few updates, too small batches, or another T."""

    measure, usual, limit = "eval_gap", "below 0.1", 0.2
    source = "spikingjelly, issues 157 and 559"

    def found(self, e: Evidence, limit: float) -> Found | None:
        gap = e.flow.get("eval_gap")
        return Found(gap) if gap is not None and gap > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        text = "Estimate them again on training batches: lsg eval CKPT --refresh-norm 100 --out NEW.safetensors. In training: more steps, or larger batches."
        return Remedy(text, e.back("batch_size", 4) | e.back("epochs", 2))


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


@register("rule", "silent-layers")
class SilentLayers(Rule):
    """Neurons hardly ever reach the threshold, so that later layers receive nothing, and no gradient tells them to."""

    measure, usual, limit = "firing_rate", "0.02 to 0.3", 0.005
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


@register("rule", "saturated-layers")
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


def _two_sigma(e: Evidence, verb: str) -> Remedy:
    width = 2 * e.mean("u_std") * e.flow["threshold"]
    method = e.settings.get("method")
    given = method in ("none", "trainable-decay", "asgl", "deeptage", "ds-atgo", "ds-atgo-paper")
    learned = {"method": "measured-sigma" if method == "lsg" else "lsg"}
    settings = {"width": float(f"{width:.2g}")} if given and width > 0 else learned
    return Remedy(f"{verb} the surrogate to 2 standard deviations of u: a width of {width:.2g}.", settings)


@register("rule", "exploding-gradients")
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


@register("rule", "vanishing-gradients")
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


@register("rule", "averaging")
class Averaging(Rule):
    """The average of the weights (--ema) contains many of their first values: it is too slow for this number of steps."""

    measure, usual, limit = "raw_val_accuracy", "within 0.05 of val_accuracy", 0.1

    def found(self, e: Evidence, limit: float) -> Found | None:
        raw = e.last("raw_val_accuracy")
        return Found(raw) if raw - e.last("val_accuracy") > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Train without the average, or with a smaller decay of it.", {"ema": 0.0})


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


@register("rule", "coarse-outputs")
class CoarseOutputs(Rule):
    """The network's outputs are spike counts with few values, of which the loss sees only steps."""

    measure, usual, limit = "output_values", "more than T + 1", 1.0
    severity = "warning"
    alone = True  # silent layers have few outputs, too

    def found(self, e: Evidence, limit: float) -> Found | None:
        count = e.flow.get("output_values")
        return Found(count) if count is not None and count <= limit * (e.flow["T"] + 1) else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Read a membrane potential or a linear layer instead of spike counts, or add timesteps.")


@register("rule", "too-deep")
class TooDeep(Rule):
    """The network has more layers than so short a training can reach, and its loss hardly fell."""

    measure, usual, limit = "layers", "up to 12 layers of neurons", 12.0
    alone = True
    source = "docs/evidence.md#e3-depth"

    def found(self, e: Evidence, limit: float) -> Found | None:
        deep = e.learns_poorly and e.epochs and len(e.layers) > limit
        return Found(len(e.layers)) if deep else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings: dict[str, Any] = {}
        if "depth" in e.settings and e.settings["arch"] == "resnet19":
            settings = {"depth": max(9, e.settings["depth"] // 4 * 2 + 1)}
            settings |= {"residual": "add"} if e.settings["residual"] == "none" else {}
        return Remedy("Use half of the layers, residual connections, or more epochs.", settings)


@register("rule", "not-learning")
class NotLearning(Rule):
    """The loss stayed at that of equal probabilities, with signals and gradients in their usual ranges."""

    measure, usual, limit = "train_loss", "below 0.9 log(classes)", 0.9
    alone = True
    source = "spikingjelly, issue 338"

    def found(self, e: Evidence, limit: float) -> Found | None:
        if not e.settings:  # a network without a run: the loss that was measured
            loss = e.flow.get("loss")
            return Found(loss, measure="loss") if loss is not None and loss > limit * e.chance else None
        loss = e.last("train_loss")
        return Found(loss) if loss > limit * e.chance and len(e.epochs) > 2 else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("lr", 2) or e.back("epochs", 2) or e.scaled("lr", 0.1)
        usual = "epochs" if "epochs" in settings else "learning rate"
        text = (
            f"Try the {usual} of the command below"
            if settings
            else "Train longer, and try learning rates of 0.1, 0.01 and 0.001"
        )
        return Remedy(f"{text}, and check that inputs and labels belong together and that no weight is frozen.", settings)


@register("rule", "overfitting")
class Overfitting(Rule):
    """Training accuracy is high, but validation accuracy does not follow."""

    measure, usual, limit = "train_accuracy", "within 0.15 of validation", 0.2
    severity = "note"

    def found(self, e: Evidence, limit: float) -> Found | None:
        train = e.last("train_accuracy")
        held_out = e.last("val_accuracy")
        if e.last("raw_val_accuracy") > held_out:  # without the average of the weights
            held_out = e.last("raw_val_accuracy")
        return Found(train) if train - held_out > limit and train > 0.9 else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.scaled("weight_decay", 4) if e.settings.get("weight_decay") else {}
        return Remedy("Augment the data (--augment), increase the weight decay, or use a smaller network.", settings)


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
