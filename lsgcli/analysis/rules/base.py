"""What a rule reads, what it returns, and the order of rules. Imports no torch."""

import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from lsgcli.analysis.measures import LEARNED, value

if TYPE_CHECKING:
    from lsgcli.analysis.watch.lines import Line
    from lsgcli.analysis.watch.seen import Seen

SEVERITIES = ("error", "warning", "note")
OURS = "ours"
MOST = 4  # names in a text
RESET_CALLS = {  # of the state, by package of the neurons
    "snntorch": "Begin each batch with the states of init_leaky() (init_synaptic(), ...), or with snntorch.utils.reset(net)",
    "spikingjelly": "Call spikingjelly.activation_based.functional.reset_net(net) after each step of the optimiser and each batch of evaluation",
    "norse": "Begin each batch with the state None",
    "sinabs": "Call sinabs.reset_states(net) before each batch",
}
# In this order, a finding is often the cause of those of later rules. Rules that are not listed follow.
CAUSES = (
    "empty-optimiser",
    "input-constant",
    "no-surrogate",
    "in-place",
    "graph-twice",
    "shapes",
    "types",
    "no-step",
    "gradients-lost",
    "gradients-accumulate",
    "not-optimised",
    "frozen",
    "overwritten",
    "softmax-before-loss",
    "broadcast",
    "state-kept",
    "state-lost",
    "batch-as-time",
    "equal-weights",
    "shared-weights",
    "evaluation-mode",
    "dropout",
    "metric",
    "same-batch",
    "signal-lost",
    "learning-rate",
    "unusual-settings",
    "decay-fast",
    "clipped",
    "few-steps",
    "training-mode",
)
# They follow; what they find behind an error is a note, a symptom of that.
SYMPTOMS = (
    "wrong-sign",
    "penalty",
    "no-graph",
    "unchanged",
    "target-scale",
    "not-finite",
    "without-gradient",
    "script-failed",
    "classes",
    "steps-too-small",
    "weight-decay",
    "evaluation-input",
    "averaging",
    "no-reset",
    "decay-at-bound",
    "input-scale",
    "initial-scale",
    "narrow-window",
    "potential-scale",
    "steps-too-large",
    "batch-dependent",
    "running-statistics",
    "steps-without-gradient",
    "labels",
    "wide-window",
    "silent",
    "saturated",
    "equal-outputs",
    "saturated-outputs",
    "exploding",
    "blocked",
    "vanishing",
    "drift",
    "coarse-outputs",
    "too-deep",
    "not-learning",
    "overfitting",
)


class Found(NamedTuple):
    """Where a measure is outside its usual range.

    Attributes:
        value: of the measure, the farthest of all layers.
        layers: names of the layers, in order; none if the finding concerns the whole network.
        measure: the measure, if it is not that of the rule.
        where: line of the user's code; by default that of the rule, or of the first layer.
        advice: the remedy in words, if it depends on what was found.
        settings: the remedy as settings of ``lsg train``, if settings can do it; of a network without a run, they do not count.
        alternative: settings that ``--try`` trains, too.
        edits: the remedy as changes to lines of the user.
    """

    value: Any
    layers: tuple[str, ...] = ()
    measure: str = ""
    where: "Line | None" = None
    advice: str = ""
    settings: Mapping[str, Any] = {}
    alternative: Mapping[str, Any] = {}
    edits: "tuple[Edit, ...]" = ()


MaybeFound = Found | None


class Edit(NamedTuple):
    """A change to a line of the user: the text ``old`` becomes ``new``.

    Attributes:
        old: empty where the line does not have the value as an argument of a known name.
        said: the change in words.
    """

    file: str
    line: int
    old: str
    new: str
    said: str

    def __str__(self) -> str:
        return self.said


@dataclass(frozen=True)
class Evidence:
    """Input of the rules.

    Attributes:
        flow: gradient-flow record of the network.
        settings: of its run; empty for a network without a run.
        usual: the settings of a run of the same data set, in which nothing else is given.
        epochs: the records of metrics.jsonl so far.
        classes: number of classes; 0 if unknown.
        samples: number of training samples; 0 if unknown.
        tested: accuracy on the test part; NaN if unknown.
        diverged: whether training ended with a loss or gradient that is not finite.
        seen: what was seen of a training that lsg did not start.
        history: of its run: under "layers", by name, lists of measures at the end of each epoch.
    """

    flow: dict[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, Any]] = ()
    classes: int = 0
    samples: int = 0
    tested: float = math.nan
    diverged: bool = False
    seen: "Seen | None" = None
    history: Mapping[str, Any] | None = None

    @property
    def layers(self) -> Sequence[dict[str, Any]]:
        """Records of the layers, from the input."""
        layers: Sequence[dict[str, Any]] = self.flow["layers"]
        return layers

    def where(
        self, key: str, outside: Callable[[Mapping[str, Any]], bool], *, smallest: bool = False, from_start: bool = False
    ) -> MaybeFound:
        """The layers with a measure ``key`` whose records are outside; the value is the smallest or largest of theirs.

        With ``from_start``, those of a watched script must have been outside before its first step, too.
        """
        first = self.seen.first if from_start and self.seen is not None else {}
        found = {}
        for layer in self.layers:
            name = layer["name"]
            number = value(layer, key)
            if number is not None and outside(layer) and outside(layer | first.get(name, {})):
                found[name] = number
        return Found((min if smallest else max)(found.values()), tuple(found), key) if found else None

    def start(self, name: str) -> Mapping[str, Any]:
        """The record of a layer; of a watched script before its first step, to which remedies are applied."""
        first = {} if self.seen is None else self.seen.first
        return first.get(name) or next(layer for layer in self.layers if layer["name"] == name)

    def mean(self, key: str, names: Sequence[str] = ()) -> float:
        """Mean of a measure over layers, by default all; NaN if none has it."""
        starts = [self.start(layer["name"]) for layer in self.layers if not names or layer["name"] in names]
        numbers = [start[key] for start in starts if start.get(key) is not None]
        return sum(numbers) / len(numbers) if numbers else math.nan

    def last(self, key: str) -> float:
        """A number of the last epoch; NaN if there is none."""
        number = self.epochs[-1].get(key) if self.epochs else None
        return math.nan if number is None else float(number)

    @property
    def learned(self) -> bool:
        """Whether the network classifies most samples correctly, in training and in evaluation."""
        if self.seen is not None:
            return self.seen.learned
        return min(self.last("train_accuracy"), self.last("val_accuracy")) > LEARNED

    @property
    def skill(self) -> float:
        """Accuracy in training, or of a run in validation if it is higher, on a scale from 0, guessing, to 1; NaN if it is unknown."""
        best = max(self.last("train_accuracy"), self.last("val_accuracy"))
        return (best * self.classes - 1) / (self.classes - 1) if self.classes > 1 else math.nan

    @property
    def progresses(self) -> bool:
        """Whether the network is clearly better than guessing."""
        return self.skill > 0.2 if self.seen is None else self.seen.progresses

    @property
    def learns_poorly(self) -> bool:
        """Whether the network is far from classifying all samples, or its accuracy is unknown."""
        return not self.skill > 0.65

    @property
    def overshoots(self) -> bool:
        """Whether the loss of an epoch was above that before, or hardly fell: only then is a smaller learning rate a remedy."""
        losses = [epoch.get("train_loss") or math.inf for epoch in self.epochs]
        return self.diverged or any(b > 1.02 * a for a, b in itertools.pairwise(losses)) or losses[-1:] > [0.9 * losses[0]]

    def rate(self, factor: float) -> dict[str, Any]:
        """:meth:`back` of the learning rate of the usual optimiser, if it is too low, or steps are seen to overshoot."""
        if self.settings.get("optimizer") != self.usual.get("optimizer"):
            return {}
        settings = self.back("lr", factor)
        return {} if settings and settings["lr"] < self.settings["lr"] and not self.overshoots else settings

    def back(self, name: str, factor: float) -> dict[str, Any]:
        """The usual value of a setting that differs from it by more than a factor, as settings; otherwise empty."""
        own = self.settings.get(name)
        usual = self.usual.get(name)
        return {name: usual} if own and usual and off_by_a_factor(own, usual, factor) else {}

    def threshold(self, factor: float, names: Sequence[str]) -> dict[str, Any]:
        """The threshold times a factor, as settings; empty where the normalisation of these layers scales their currents with it."""
        scales = self.settings.get("norm") == "tdbn" and "hidden" not in names
        return {} if scales else self.scaled("threshold", factor)

    def scaled(self, name: str, factor: float) -> dict[str, Any]:
        """A setting times a factor, rounded, as settings; empty without a run."""
        own = self.settings.get(name)
        return {} if own is None else {name: float(f"{own * factor:.2g}")}


def rewritten(line: "Line | None", names: str, value: float, new: float) -> Edit:
    """A value and what replaces it: ``threshold=20.0 -> 0.3 at train.py:14`` where one of ``names``, separated by ``|``, is given in the line."""
    given = line and re.search(rf"\b({names})\s*=\s*-?[\d.][^,)\s]*", line.source)
    place = f" at {Path(line.file).name}:{line.line}" if line else ""
    before = given[0] if given else f"{names.partition('|')[0]} {value:.3g}"
    said = f"{before} -> {rounded(new)}{place}"
    if line is None or not given:
        return Edit("", 0, "", "", said)
    return Edit(line.file, line.line, given[0], f"{given[1]}={rounded(new)}", said)


def rounded(number: float) -> str:
    """A number with two digits, as people write it: 140 rather than 1.4e+02."""
    return f"{float(f'{number:.2g}'):.12g}"


def few(names: Sequence[str]) -> str:
    """The first of some names, and the number of the others."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def lowest_rate(layers: Iterable[Mapping[str, Any]]) -> float:
    """The lowest firing rate of some layers; 1 without any."""
    return min((layer.get("firing_rate") or 0.0 for layer in layers), default=1.0)


def off_by_a_factor(own: float, usual: float, limit: float) -> bool:
    """Whether a number is more than a factor from its usual value."""
    return not usual or not 1 / limit <= own / usual <= limit


def reset_of(seen: "Seen") -> str:
    """How the states of the neurons that were seen are reset."""
    ways = (RESET_CALLS[layer.library] for layer in seen.layers.values() if layer.library in RESET_CALLS)
    return next(ways, "Set the potentials of all neurons to 0 before each batch") + ", in training and in evaluation."


class Rule(ABC):
    """A rule. The class's documentation is the cause, in one sentence; attributes are given as arguments of the class.

    Attributes:
        measure: the measure it reads: a field of the gradient-flow record, of metrics.jsonl, or a setting.
        usual: its usual range, in words.
        limit: the threshold, which ``--limit NAME=X`` replaces.
        severity: ``error``: the network hardly learns; ``warning``: it learns worse than it could; ``note``: worth a look.
        source: where limit and remedy come from; ``ours`` by default.
        alone: whether the rule applies only if no error was found before.
        least: its severity in a network that learns.
        at: what stands at the line of a script that the finding points at, as in ``Seen.lines``.
        advice: the remedy in words, if it does not depend on what was found.
    """

    measure: ClassVar[str]
    usual: ClassVar[str]
    limit: ClassVar[float] = 0.0
    severity: ClassVar[str] = "error"
    source: ClassVar[str] = OURS
    alone: ClassVar[bool] = False
    least: ClassVar[str] = "note"
    at: ClassVar[str] = ""
    advice: ClassVar[str] = ""

    def __init_subclass__(cls, **attributes: Any):
        for name, given in attributes.items():
            setattr(cls, name, given)

    @property
    def cause(self) -> str:
        """The class's documentation as one line."""
        return " ".join((self.__doc__ or "").split())

    @abstractmethod
    def found(self, e: Evidence, limit: float) -> MaybeFound:
        """Where the measure is outside its usual range, and what to change; None if it is not."""


class ScriptRule(Rule):
    """A rule that applies where lsg watched a training."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        return None if e.seen is None else self.in_script(e.seen, limit)

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        """What was seen that is outside its usual range; None if nothing is, as by default of rules on errors alone."""
        return None
