"""What experiments say: which change makes a network learn, and which findings that confirms."""

import math
from collections.abc import Sequence

import msgspec
from msgspec import Struct, field

from lsgcli import registry
from lsgcli.system.schema import Record

CLEAR = 0.15  # more accuracy, on a scale from 0, guessing, to 1, than without the change
ORDINARY = "ordinary"
# Rules on what the network is given.
DATA = ("labels", "input-constant", "batch-dependent", "batch-as-time", "same-batch", "classes")
NOTHING = "it changes nothing in this script"
EQUAL = 0.1  # two changes that differ by less do as well
WELL = 0.65  # accuracy on that scale of a network that needs no experiment
LEARNS = 0.3  # least accuracy on that scale of a network that learns
POINTS = 200  # of a curve that is kept


class Outcome(Struct):
    """How a training went.

    Attributes:
        loss: of the last steps.
        losses: some of all, evenly spaced.
        accuracy: share of correct samples in the last steps of training; NaN if it is unknown.
        skill: the same on a scale from 0, guessing, to 1, or R^2, or where neither is known the share by which the loss fell.
        held_out: accuracy, or R^2, of the last evaluation.
        held_out_skill: the same on that scale.
        steps: of the optimiser.
        seconds: that it took.
        error: what ended it, if not the script itself; empty if it ran.
    """

    loss: float = math.nan
    losses: list[float] = []
    accuracy: float = math.nan
    skill: float = math.nan
    held_out: float = math.nan
    held_out_skill: float = math.nan
    steps: int = 0
    seconds: float = 0.0
    error: str = ""


class Experiment(Struct):
    """A training with one change.

    Attributes:
        intervention: its name, or ``edit`` of lines of the script.
        change: what is changed, as a phrase behind "once".
        rules: names of the rules that it confirms.
        general: whether it may help whatever the fault is.
        remedy: what to change in the script, in words.
        line: of the script that it concerns.
        values: what the intervention needs to know of the training without it.
        edits: changes of lines of the script.
        named: whether a finding names one of the rules.
        outcome: how the training went; of one that has not run, unknown.
        learns: whether the network learns with the change, and clearly better than without.
    """

    intervention: str
    change: str
    rules: tuple[str, ...]
    general: bool = False
    remedy: str = ""
    line: Record | None = None
    values: Record = {}
    edits: list[Record] = []
    named: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    learns: bool = False


def thinned(values: Sequence[float]) -> list[float]:
    """At most ``POINTS`` of some values, evenly spaced."""
    return list(values[:: -(-len(values) // POINTS)]) if values else []


def score(outcome: Outcome) -> float:
    """How well a network does: in training and, where it is evaluated, on held-out samples, whichever is lower."""
    if outcome.error:
        return -math.inf
    known = [number for number in (outcome.skill, outcome.held_out_skill) if math.isfinite(number)]
    return min(known, default=-math.inf)


def does_well(outcome: Outcome) -> bool:
    """Whether a network learns without a change, and does on held-out samples, too, where that is known."""
    return not outcome.error and outcome.skill > WELL and not outcome.held_out_skill < WELL / 2


def is_better(outcome: Outcome, unchanged: Outcome) -> bool:
    """Whether a network learns with a change, and clearly better than without."""
    if outcome.error or not math.isfinite(outcome.skill):
        return False
    before = 0.0 if unchanged.error or not math.isfinite(unchanged.skill) else unchanged.skill
    trains = outcome.skill > max(LEARNS, before + CLEAR)
    held_out = unchanged.held_out_skill if math.isfinite(unchanged.held_out_skill) else 0.0
    generalises = outcome.held_out_skill > max(LEARNS, held_out + CLEAR) and outcome.skill > before - CLEAR
    return trains or generalises


def best_of(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The changes, by which rules stand, with which the network learns about as well as with the best: specific ones before general ones."""
    learning = [one for one in experiments if one.learns and one.rules]
    best = max((score(one.outcome) for one in learning), default=0.0)
    near = [one for one in learning if score(one.outcome) >= best - EQUAL]
    return sorted(near, key=lambda one: (one.general, -score(one.outcome)))


def confirm(findings: Sequence[Record], experiments: Sequence[Experiment]) -> list[Record]:
    """Findings with ``confirmed``: true if the network learns once what they name is changed, false if it does not, None if that was not tried.

    Confirmed ones come first, refuted ones last. A cause that no finding names becomes one. Where no change helps, nothing is refuted: there may be
    two causes.
    """
    best = best_of(experiments)
    right = {rule for one in best for rule in one.rules}
    helped = {rule for one in experiments if one.learns for rule in one.rules}
    tried = {rule for one in experiments for rule in one.rules if not one.outcome.error}
    found = []
    for finding in findings:
        rule = finding["rule"]
        refuted = bool(right) and rule in tried - helped
        found.append({**finding, "confirmed": True if rule in right else False if refuted else None})
    failing = failing_ordinary(experiments)
    if failing is not None:
        for finding in found:
            finding["confirmed"] = finding["rule"] in DATA or finding["confirmed"]
    if not any(finding["confirmed"] and finding["severity"] != "note" for finding in found):
        if best:
            found.append(_finding_of(best[0]))
        elif failing is not None:
            found.append(_finding_of(_on_data(failing)))
    order = {True: 0, None: 1, False: 2}
    return sorted(found, key=lambda finding: (finding["severity"] == "note", order[finding["confirmed"]]))


def failing_ordinary(experiments: Sequence[Experiment]) -> Experiment | None:
    """The ordinary network, if it has run and does not learn, nor does any other change help; otherwise None."""
    if any(one.learns for one in experiments):
        return None
    return next((one for one in experiments if one.intervention == ORDINARY and not one.outcome.error), None)


def _on_data(failing: Experiment) -> Experiment:
    """What an ordinary network that does not learn says: inputs and labels do not belong together."""
    said = "Check that each input comes with its own label: print some of both, as the loss gets them."
    return msgspec.structs.replace(failing, change=f"no learning even if {failing.change}", rules=DATA, remedy=said)


def _finding_of(experiment: Experiment) -> Record:
    """A finding that only an experiment has told."""
    rule = experiment.rules[0]
    return {
        "rule": rule,
        "severity": "error",
        "follows": None,
        "layers": [],
        "measure": "with one change",
        "value": experiment.change,
        "usual": "",
        "cause": registry.get("rule", rule)().cause,
        "remedy": {"text": experiment.remedy, "settings": {}, "alternative": {}, "edits": []},
        "command": None,
        "source": "experiment",
        "where": experiment.line,
        "confirmed": True,
    }


def sentence(experiments: Sequence[Experiment], unchanged: Outcome) -> str:
    """What the experiments say, in one sentence or two."""
    if not experiments and does_well(unchanged):
        return "It learns as it is: nothing was tried."
    best, *_ = [*best_of(experiments), None]
    if best is not None:
        others = [one.change for one in experiments if one.learns and one is not best and one.rules]
        also = f" It also learns if {', or if '.join(others[:3])}." if others else ""
        return f"It learns once {best.change}{_place(best.line)}.{also}"
    if (failing := failing_ordinary(experiments)) is not None:
        return f"It does not learn even if {failing.change}: look at inputs and labels."
    learning = {one.intervention for one in experiments if one.learns}
    if "rectified" in learning:
        return "It learns once neurons are a ReLU of their current, so the fault is in the neurons, not in data, loss or optimiser."
    if "one-batch" in learning:
        return "It learns one batch by heart, so gradients and steps work: look at the data and at the number of steps."
    if ORDINARY in learning:
        return "It learns as an ordinary network, of ReLUs, with cross-entropy and Adam: inputs and labels belong together."
    if not experiments:
        return "No experiment applies to what was seen."
    return "None of these changes alone makes it learn: there may be two causes, or one that no experiment changes."


def _place(line: Record | None) -> str:
    return f" ({str(line['file']).rpartition('/')[2]}:{line['line']})" if line else ""
