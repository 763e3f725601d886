"""Rules on the whole of a training: its settings, its losses and accuracies, and what the network puts out."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import LEARNED, value
from lsgcli.analysis.rules.base import (
    Evidence,
    Found,
    MaybeFound,
    Remedy,
    Rule,
    ScriptRule,
    off_by_a_factor,
    rewritten,
)
from lsgcli.analysis.rules.data_flow import CLEAR, UNCLEAR
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

SMALLEST_CLIP = 0.01  # norm of gradients
LARGEST_EPS = 1e-3
STEPS = 20  # fewest, after which outputs should carry information about labels


@register("rule", "not-finite")
class NotFinite(
    Rule,
    measure="loss",
    usual="finite",
    limit=math.inf,
    source="spyx: learning rate / 10, gradients clipped at 1",
):
    """Weights, potentials or gradients grew until they were not finite."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e)
        measured = [key for key in ("u_mean", "grad_norm") if any(key in layer for layer in e.layers)]
        broken = tuple(layer["name"] for layer in e.layers if any(value(layer, key) is None for key in measured))
        return Found(None, broken) if e.diverged or broken or (e.layers and e.flow.get("loss") is None) else None

    def _in_script(self, e: Evidence) -> MaybeFound:
        assert e.seen is not None
        if not e.seen.input.get("finite", 1.0):
            known = "Replace the values that are not finite before the network, as with torch.nan_to_num(x)."
            return Found(None, (), "input", e.seen.lines.get("network"), known)
        step = next((step for step, loss in enumerate(e.seen.numbers()) if not math.isfinite(loss)), None)
        layers = list(e.seen.layers.values())
        names = tuple(layer.name for layer in layers if layer.not_finite)
        if step is None and not names:
            return None
        if e.seen.broken:  # a surrogate makes the weights before it NaN, but not those behind it
            names = tuple(layer.name for layer in layers if id(layer.weight) in e.seen.broken)[-1:] or names
        measure = "step of the first loss that is not finite" if step is not None else "dL/du"
        if step == 0 and not names:  # before any update of the weights
            name, where = e.seen.beyond or ("the loss function", e.seen.lines.get("loss"))
            ways = "look there for a logarithm, root or quotient of 0, a decay above 1, and for weights or inputs that are too large"
            return Found(
                step, (), measure, where, f"The first values that are not finite, or too large, come from {name}: {ways}."
            )
        return Found(step, names, measure, None if names else e.seen.lines.get("loss"))

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if found.advice:
            return Remedy(found.advice)
        if e.seen is not None and found.layers:
            return Remedy(
                f"The backward pass of the surrogate of {found.layers[0]} returns NaN or Inf: check it at 0 and at large potentials."
            )
        if not e.settings:
            return Remedy(
                "Divide the learning rate by 10, and clip gradients to a norm of 1; if the loss was usual before, look for a logarithm, root or "
                "quotient of 0 (torch.autograd.set_detect_anomaly(True))."
            )
        own, usual, unclipped = e.settings["lr"], e.usual["lr"], not e.settings["clip_grad"]
        default = f", where {e.settings['dataset']} has {usual:g} by default" if own > usual else ""
        text = (
            f"Likely cause: a learning rate of {own:g}{default}{', and gradients that are not clipped' if unclipped else ''}."
        )
        return Remedy(text, {"lr": min(usual, float(f"{own / 10:.2g}"))} | ({"clip_grad": 1.0} if unclipped else {}))


@register("rule", "batch-dependent")
class BatchDependent(
    Rule,
    measure="batch_invariant",
    usual="true",
    source="spikingjelly, issues 318 and 594",
):
    """The output for a sample depends on its batch, or on earlier calls: a state is not reset, or axes are mixed up."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None and not e.progresses and (place := _mixed(e.seen)):
            return Found(False, measure=f"labels separable in the {place}", where=e.seen.lines.get("network"))
        return Found(False) if e.flow.get("batch_invariant") is False else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if found.measure:
            return Remedy(
                "Keep samples apart: exchange axes with transpose() or permute() before view() or reshape(), and average outputs over timesteps only."
            )
        return Remedy(
            "Reset all neurons before each batch, in training and evaluation, and check the order of axes: (T, B, ...)."
        )


@register("rule", "labels")
class Labels(
    Rule,
    measure="accuracy",
    usual="similar in training and evaluation",
    limit=0.2,
    advice="Order inputs and labels by one permutation, in training and evaluation, and give the loss the labels of the same samples, from 0 to classes - 1.",
):
    """Labels do not fit: many are wrong, they belong to other inputs, noise hides these, or labels or predictions of training and evaluation differ."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen, limit)
        train, held_out = e.last("train_accuracy"), e.last("val_accuracy")
        if e.classes < 2 or math.isnan(train):
            return None
        if train < 1 / e.classes and e.last("train_loss") < e.chance / 2:  # other labels in loss and accuracy
            return Found(train, measure="train_accuracy")
        altered = any(e.settings.get(name) != e.usual.get(name) for name in ("augment", "mixup", "cutmix", "dropout"))
        if held_out - train > limit and not altered and 1 / e.classes <= train < LEARNED:
            return Found(train, measure="train_accuracy, below that of validation")
        guesses = e.tested < 2 / e.classes and held_out - e.tested > limit
        return Found(e.tested, measure="test accuracy, unlike that of validation") if guesses else None

    def _in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        entered, accuracy = seen.separable("input", "first"), seen.recent(seen.accuracy)
        held_out, learns = accuracy - seen.gap, accuracy > 2 * seen.chance
        begun, long = seen.steps >= NotLearning.fewest, seen.steps > 2 * NotLearning.fewest
        fires = all((layer.get("firing_rate") or 0) > 1e-3 for layer in seen.records)  # otherwise, no label reaches the weights
        unclear = fires and entered < UNCLEAR > seen.separable("outputs") and not seen.progresses
        better = -seen.gap > 0.75 * limit and not any(p > 0.3 for p, _ in seen.dropouts)
        by_heart = seen.gap > limit / 2 and learns and held_out < 1.2 * seen.chance and long
        loss = seen.lines.get("loss")
        if seen.outside:
            targets = "Give the loss targets from 0 to 1: count two classes from 0, or divide by the largest."
            return Found(seen.outside, (), "target of a binary cross-entropy", loss, targets)
        if seen.smoothing > 0.9:
            less = rewritten(loss, "label_smoothing", seen.smoothing, 0.1)
            return Found(seen.smoothing, (), "label_smoothing", loss, f"Smooth less: {less}.")
        if unclear and begun:
            return Found(entered, (), "standard deviations by which neighbours share labels", loss)
        if better and long:
            return Found(seen.gap, (), "training accuracy minus that of evaluation", loss)
        if by_heart or (seen.gap > 2 * limit and held_out < seen.chance + limit):
            guessing = "training accuracy minus that of evaluation, which is that of guessing"
            return Found(seen.gap, (), guessing, seen.lines.get("evaluation"))
        return None


def _mixed(seen: "Seen") -> str:
    """Where neighbours share no labels, although they do in what enters the network; empty if samples are not mixed."""
    if seen.arriving < 0.01:  # hardly any spikes enter
        return ""
    if seen.separable("input") > CLEAR and seen.separable("first") < UNCLEAR:
        return "input of the first layer"
    if not (seen.separable("input", "first") > CLEAR and seen.separable("outputs") < UNCLEAR and _alive(seen)):
        return ""
    # Other causes of outputs without information: too few steps, training itself, dropout, equal outputs.
    if seen.steps < STEPS or seen.separable("begin") > UNCLEAR or any(p > 0.5 for p, _ in seen.dropouts):
        return ""
    outputs = seen.outputs
    return "outputs" if outputs is not None and bool((outputs.values != outputs.values[0]).any()) else ""


def _alive(seen: "Seen") -> bool:
    """Whether all layers fire from the start, but not always, with potentials near the threshold."""
    firing = all(0.005 < (layer.get("firing_rate") or 0) < 0.9 for layer in [*seen.first.values(), *seen.records])
    return firing and all((layer.get("u_std") or 0) < 10 for layer in seen.first.values())


@register("rule", "learning-rate")
class LearningRate(
    Rule,
    measure="lr",
    usual="within a factor of 5 of the data set's default",
    limit=5.0,
    source="spikingjelly, issue 338",
):
    """The learning rate is far from what this data set, or this optimiser, is usually trained with, and the network does not learn."""

    highest = 1.0, 0.01  # of an optimiser as it is given, and of Adam and its like

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            rate, line = e.seen.highest_rate, e.seen.lines.get("optimiser")
            highest = self.highest[e.seen.adaptive]
            high = rate > limit * highest and (not e.seen.skill > 0.65 or e.seen.gap > 0.3)
            less = f"Decrease it: {rewritten(line, 'lr', rate, highest / 10)}."
            return Found(rate, where=line, advice=less) if high else None
        return Found(e.settings["lr"]) if e.learns_poorly and e.epochs and self._usual(e, limit) else None

    def _usual(self, e: Evidence, limit: float) -> dict[str, Any]:
        """The usual rate as settings, where the run's is far from it; for AdamW it is another than the data set's, of SGD."""
        if e.settings.get("optimizer") == "adamw" and e.settings["lr"] > limit * self.highest[True]:
            return {"lr": self.highest[True] / 10}
        return e.rate(limit)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if found.advice:
            return Remedy(found.advice)
        settings = self._usual(e, self.limit) or {"lr": e.usual["lr"]}
        return Remedy(f"Train with a learning rate of {settings['lr']:g}.", settings)


def _off_by_a_half(own: float, usual: float, limit: float) -> bool:
    return abs(own - usual) > 0.5


@register("rule", "unusual-settings")
class UnusualSettings(
    Rule,
    measure="settings",
    usual="within a factor of 10 of the data set's defaults",
    limit=10.0,
):
    """The network does not learn, with settings of training or data that are far from those usual for the data set, or for the optimiser."""

    far: Mapping[str, Callable[[Any, Any, float], bool]] = {  # of a value, the usual value, and the limit
        "weight_decay": off_by_a_factor,
        "momentum": _off_by_a_half,
        "clip_grad": lambda own, usual, limit: 0 < own < SMALLEST_CLIP,  # 0: not clipped
        "dropout": _off_by_a_half,
        "label_smoothing": _off_by_a_half,
        "batch_size": off_by_a_factor,
        "width_multiplier": lambda own, usual, limit: own < usual / 4,
        "augment": lambda own, usual, limit: own != "none",
        "mixup": _off_by_a_half,
        "cutmix": _off_by_a_half,
        "accumulate": off_by_a_factor,
        "val_fraction": lambda own, usual, limit: own > 0.5,
        "tet_lambda": _off_by_a_half,
        "decay_lr": off_by_a_factor,
        "schedule": lambda own, usual, limit: True,
        "slicing": lambda own, usual, limit: True,
    }

    def _far(self, e: Evidence, limit: float) -> dict[str, Any]:
        pairs = {name: (e.settings.get(name), e.usual.get(name)) for name in self.far}
        changed = {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
        back = {name: usual for name, (own, usual) in changed.items() if self.far[name](own, usual, limit)}
        if 2 * e.settings["warmup_epochs"] > e.settings["epochs"] > 1:
            back["warmup_epochs"] = e.settings["epochs"] // 10
        if 0 < e.samples < limit * e.settings["batch_size"] and e.settings["batch_size"] > e.usual["batch_size"]:
            back["batch_size"] = e.usual["batch_size"]  # few updates in an epoch
        if e.settings.get("rate_target"):
            back["rate_target"] = 0.99  # which no layer exceeds
        return back

    def _in_script(self, seen: "Seen") -> MaybeFound:
        group, line = seen.settings, seen.lines.get("optimiser")
        eps, average = group.get("eps", 0), group.get("betas", [group.get("momentum", 0)])[0]
        if eps > LARGEST_EPS:
            return Found(eps, (), "eps", line, f"Return to the usual value: {rewritten(line, 'eps', eps, 1e-8)}.")
        if average > 0.98:
            fewer = f"Average over fewer steps: {rewritten(line, 'momentum|beta', average, 0.9)}."
            return Found(average, (), "momentum", line, fewer)
        return None

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return None if e.seen.skill > 0.65 else self._in_script(e.seen)
        if not e.epochs or not e.learns_poorly or e.last("val_accuracy") > LEARNED:
            return None
        if 0 < e.samples * len(e.epochs) < NotLearning.fewest * e.settings["batch_size"] and "batch_size" not in self._far(
            e, limit
        ):
            return None  # after so few updates, nothing learns
        names = [*self._far(e, limit), *(["freeze"] if e.settings.get("freeze") else [])]
        return Found(", ".join(f"{name} {_written(e.settings[name])}" for name in names)) if names else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if e.seen is not None:
            return Remedy(found.advice)
        back = self._far(e, self.limit)
        names = ", ".join(f"{name} {_written(usual)}" for name, usual in back.items())
        text = f"Return to usual values: {names}." if back else ""
        return Remedy(f"{text} Train all layers, without --freeze.".strip() if e.settings.get("freeze") else text, back)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@register("rule", "small-batch")
class SmallBatch(
    Rule,
    measure="batch_size",
    usual="at least 16",
    limit=8.0,
    source="spikingjelly, issue 157",
):
    """Normalisation computes its statistics from too few samples."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        size = e.settings.get("batch_size", math.inf) / e.settings.get("accumulate", 1)
        if e.seen is not None and e.seen.momenta and e.seen.batch:
            size = e.seen.batch
        return Found(size) if size < limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if not e.settings:
            return Remedy("Use batches of 16 or more, of which normalisation computes its statistics, or group normalisation.")
        settings = {"batch_size": max(16, e.usual["batch_size"])} if e.settings["batch_size"] < 16 else {}
        settings |= {"accumulate": 1} if e.settings["accumulate"] > 1 else {}
        return Remedy("Use larger batches, of which normalisation computes its statistics.", settings)


@register("rule", "coarse-outputs")
class CoarseOutputs(
    Rule,
    measure="output_values",
    usual="more than T + 1",
    limit=1.0,
    severity="warning",
    alone=True,
):
    """The network's outputs are spike counts with few values, of which the loss sees only steps."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen)
        count = e.flow.get("output_values")
        return Found(count) if count is not None and count <= limit * (e.flow["T"] + 1) else None

    def _in_script(self, seen: "Seen") -> MaybeFound:
        outputs, last = seen.outputs, list(seen.layers.values())[-1:]
        if outputs is None or outputs.targets is None or seen.skill > 0.5 or seen.steps < NotLearning.fewest or not last:
            return None
        read = last[0]
        fires = read.du and not (read.arriving or read.unreset or read.compares) and read.spikes > 0.02 * read.n
        if not fires or float(outputs.targets.max()) <= read.threshold:
            return None
        free = "Read the potential of neurons that are not reset: reset_mechanism='none', or a threshold above all targets."
        return Found(read.threshold, (read.name,), "threshold of the neurons that are read", advice=free)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        instead = "Give the loss what the last neurons receive, the outputs of the layer before them, averaged over timesteps."
        return Remedy(found.advice or instead)


@register("rule", "too-deep")
class TooDeep(
    Rule,
    measure="layers",
    usual="up to 12 layers of neurons",
    limit=12.0,
    severity="warning",
    alone=True,
    source="docs/evidence.md#e3-depth",
):
    """The network has more layers than so short a training can reach, and its loss hardly fell."""

    plain = 4  # in a script that learns poorly

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        watched = e.seen is not None and e.seen.steps >= NotLearning.fewest and e.seen.skill < 0.5
        deep = len(e.layers) > (self.plain if watched else limit) and (watched or (e.learns_poorly and e.epochs))
        return Found(len(e.layers)) if deep else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings: dict[str, Any] = {}
        if "depth" in e.settings and e.settings["arch"] == "resnet19":
            settings = {"depth": max(9, e.settings["depth"] // 4 * 2 + 1)}
            settings |= {"residual": "add"} if e.settings["residual"] == "none" else {}
        return Remedy("Use half of the layers, residual connections, or more epochs.", settings)


@register("rule", "few-steps")
class FewSteps(
    ScriptRule,
    measure="steps of the optimiser",
    usual="hundreds",
    limit=50.0,
    source="DeepCrime: batch size, epochs",
):
    """The script ends after a few steps, in which the weights cannot change by much."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if not 0 < seen.steps < limit or seen.skill > 0.65:
            return None
        if seen.backwards > 8 * seen.steps > 0 and seen.backwards > limit:
            once = (
                f"Call step() and zero_grad() after each backward pass: there are {seen.backwards / seen.steps:.0f} in a step."
            )
            return Found(seen.steps, where=seen.lines.get("step"), advice=once)
        more = f"Train for {300 / seen.steps:.0f} times as many epochs, or with smaller batches."
        return Found(seen.steps, advice=more) if seen.ended and (seen.evaluated or seen.evaluated_input) else None


@register("rule", "not-learning")
class NotLearning(
    Rule,
    measure="train_loss",
    usual="below 0.9 of its start",
    limit=0.9,
    alone=True,
    source="spikingjelly, issue 338",
):
    """The loss stays where it started, or accuracy near that of guessing, with signals and gradients in their usual ranges."""

    fewest = 50  # steps

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            seen = e.seen
            guesses = seen.steps > 2 * self.fewest and seen.skill < 0.02
            begun = seen.steps >= self.fewest and not seen.learned_before  # of several tasks, the next one may have just begun
            stays = begun and not seen.progresses and (guesses or seen.progress <= 1 - limit)
            others = "Let the loss count what the accuracy counts: check its masks, weights and indices, and that each sample is compared with its label."
            fell = Found(seen.progress, measure="share by which the loss fell", where=seen.lines.get("loss"))
            return fell._replace(advice=others if seen.progress > limit else "") if stays else None
        if len(e.epochs) < 3:
            return None
        start, loss = e.epochs[0].get("train_loss") or math.nan, e.last("train_loss")
        return Found(loss) if loss > limit * start and not e.skill > 0.2 else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if e.seen is not None:
            return Remedy(found.advice or "Train for 10 times as many steps.")
        settings = e.rate(2) or e.back("epochs", 2)
        usual = "epochs" if "epochs" in settings else "learning rate"
        text = (
            f"Try the {usual} of the command below"
            if settings
            else "Train longer, and try learning rates of 0.1, 0.01 and 0.001"
        )
        return Remedy(f"{text}, and check that inputs and labels belong together and that no weight is frozen.", settings)
