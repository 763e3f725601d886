"""Rules on the whole of a training: its settings, its losses and accuracies, and what the network puts out."""

import math
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import LEARNED
from lsgcli.analysis.rules.base import (
    Evidence,
    Found,
    MaybeFound,
    Rule,
    ScriptRule,
    lowest_rate,
    off_by_a_factor,
    rewritten,
)
from lsgcli.analysis.rules.data_flow import CLEAR, UNCLEAR
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

SMALLEST_CLIP = 0.01  # norm of gradients
STEPS = 20  # fewest, after which outputs should carry information about labels


@register("rule", "not-finite")
class NotFinite(
    Rule,
    measure="loss",
    usual="finite",
    limit=math.inf,
    source="spyx: learning rate / 10, gradients clipped at 1",
    advice=(
        "Divide the learning rate by 10, and clip gradients to a norm of 1; if the loss was usual before, look for a logarithm, root or quotient "
        "of 0 (torch.autograd.set_detect_anomaly(True))."
    ),
):
    """Weights, potentials or gradients grew until they were not finite."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen)
        # Records without numbers have None, and short ones have no such field.
        broken = tuple(layer["name"] for layer in e.layers if None in (layer.get("u_mean", 0), layer.get("grad_norm", 0)))
        if not (e.diverged or broken or (e.layers and e.flow.get("loss") is None)):
            return None
        if not e.settings:
            return Found(None, broken)
        own = e.settings["lr"]
        usual = e.usual["lr"]
        settings = {"lr": min(usual, float(f"{own / 10:.2g}"))}
        advice = f"Likely cause: a learning rate of {own:g}"
        if own > usual:
            advice += f", where {e.settings['dataset']} has {usual:g} by default"
        if not e.settings["clip_grad"]:
            advice += ", and gradients that are not clipped"
            settings["clip_grad"] = 1.0
        return Found(None, broken, advice=f"{advice}.", settings=settings)

    def _in_script(self, seen: "Seen") -> MaybeFound:
        if not seen.input.get("finite", 1.0):
            known = "Replace the values that are not finite before the network, as with torch.nan_to_num(x)."
            return Found(None, (), "input", seen.lines.get("network"), known)
        step = next((step for step, loss in enumerate(seen.numbers()) if not math.isfinite(loss)), None)
        names = tuple(layer.name for layer in seen.layers.values() if layer.not_finite)
        if step is None and not names:
            return None
        if seen.broken:  # a surrogate makes the weights before it NaN, but not those behind it
            names = tuple(layer.name for layer in seen.layers.values() if layer.weight_id in seen.broken)[-1:] or names
        measure = "dL/du" if step is None else "step of the first loss that is not finite"
        if names:
            surrogate = (
                f"The backward pass of the surrogate of {names[0]} returns NaN or Inf: check it at 0 and at large potentials."
            )
            return Found(step, names, measure, advice=surrogate)
        loss = seen.lines.get("loss")
        if step:
            return Found(step, (), measure, loss)
        # Before any update of the weights.
        name, where = seen.beyond or ("the loss function", loss)
        ways = (
            "look there for a logarithm, root or quotient of 0, a decay above 1, and for weights or inputs that are too large"
        )
        first = f"The first values that are not finite, or too large, come from {name}: {ways}."
        return Found(step, (), measure, where, first)


@register("rule", "batch-dependent")
class BatchDependent(
    Rule,
    measure="batch_invariant",
    usual="true",
    source="spikingjelly, issues 318 and 594",
    advice="Reset all neurons before each batch, in training and evaluation, and check the order of axes: (T, B, ...).",
):
    """The output for a sample depends on its batch, or on earlier calls: a state is not reset, or axes are mixed up."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None and not e.progresses and (place := _mixed(e.seen)):
            apart = "Keep samples apart: exchange axes with transpose() or permute() before view() or reshape(), and average outputs over timesteps only."
            return Found(False, (), f"labels separable in the {place}", e.seen.lines.get("network"), apart)
        return Found(False) if e.flow.get("batch_invariant") is False else None


@register("rule", "labels")
class Labels(
    Rule,
    measure="accuracy",
    usual="similar in training and evaluation",
    limit=0.2,
    at="loss",
    advice="Order inputs and labels by one permutation, in training and evaluation, and give the loss the labels of the same samples, from 0 to classes - 1.",
):
    """Labels do not fit: many are wrong, they belong to other inputs, noise hides these, or labels or predictions of training and evaluation differ."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen, limit)
        train = e.last("train_accuracy")
        held_out = e.last("val_accuracy")
        if e.classes < 2 or math.isnan(train):
            return None
        if train < 1 / e.classes and e.last("train_loss") < math.log(e.classes) / 2:  # other labels in loss and accuracy
            return Found(train, measure="train_accuracy")
        altered = any(e.settings.get(name) != e.usual.get(name) for name in ("augment", "mixup", "cutmix", "dropout"))
        if held_out - train > limit and not altered and 1 / e.classes <= train < LEARNED:
            return Found(train, measure="train_accuracy, below that of validation")
        if e.tested < 2 / e.classes and held_out - e.tested > limit:
            return Found(e.tested, measure="test accuracy, unlike that of validation")
        return None

    def _in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.outside:
            targets = "Give the loss targets from 0 to 1: count two classes from 0, or divide by the largest."
            return Found(seen.outside, measure="target of a binary cross-entropy", advice=targets)
        if seen.smoothing > 0.9:
            less = rewritten(seen.lines.get("loss"), "label_smoothing", seen.smoothing, 0.1)
            return Found(seen.smoothing, measure="label_smoothing", advice=f"Smooth less: {less}.", edits=(less,))
        entered = seen.separable("input", "first")
        left = seen.separable("outputs")
        fires = lowest_rate(seen.records) > 1e-3  # otherwise, no label reaches the weights
        if fires and entered < UNCLEAR and left < UNCLEAR and not seen.progresses and seen.steps >= NotLearning.fewest:
            return Found(entered, measure="standard deviations by which neighbours share labels")
        long = seen.steps > 2 * NotLearning.fewest
        if long and -seen.gap > 0.75 * limit and not any(p > 0.3 for p, _ in seen.dropouts):
            return Found(seen.gap, measure="training accuracy minus that of evaluation")
        train = seen.recent(seen.accuracy)
        held_out = train - seen.gap
        by_heart = long and seen.gap > limit / 2 and train > 2 * seen.chance and held_out < 1.2 * seen.chance
        if by_heart or (seen.gap > 2 * limit and held_out < seen.chance + limit):
            guessing = "training accuracy minus that of evaluation, which is that of guessing"
            return Found(seen.gap, measure=guessing, where=seen.lines.get("evaluation"))
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
            return self._in_script(e.seen, limit)
        if not e.learns_poorly or not e.epochs:
            return None
        own = e.settings["lr"]
        adam = self.highest[True]
        settings = e.rate(limit)
        if e.settings.get("optimizer") == "adamw" and own > limit * adam:
            settings = {"lr": adam / 10}  # rather than the data set's, of SGD
        return Found(own, advice=f"Train with a learning rate of {settings['lr']:g}.", settings=settings) if settings else None

    def _in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        rate = seen.highest_rate
        highest = self.highest[seen.adaptive]
        line = seen.lines.get("optimiser")
        if rate <= limit * highest or (seen.skill > 0.65 and not seen.gap > 0.3):
            return None
        less = rewritten(line, "lr", rate, highest / 10)
        return Found(rate, where=line, advice=f"Decrease it: {less}.", edits=(less,))


@register("rule", "unusual-settings")
class UnusualSettings(
    Rule,
    measure="settings",
    usual="within a factor of 10 of the data set's defaults",
    limit=10.0,
):
    """The network does not learn, with settings of training or data that are far from those usual for the data set."""

    factors = "weight_decay", "batch_size", "accumulate", "decay_lr"  # judged by their ratio to the usual value
    shares = "momentum", "dropout", "label_smoothing", "mixup", "cutmix", "tet_lambda", "val_fraction"  # from 0 to 1
    kinds = "augment", "schedule", "slicing"

    def _far(self, e: Evidence, limit: float) -> dict[str, Any]:
        """The usual values of the settings that are far from them."""
        settings = e.settings
        back = {}
        for name, usual in e.usual.items():
            own = settings.get(name)
            if own is None or usual is None or own == usual:
                continue
            if name in self.factors:
                far = off_by_a_factor(own, usual, limit)
            elif name in self.shares:
                far = abs(own - usual) > 0.5
            else:
                far = name in self.kinds and own != "none"
            if far:
                back[name] = usual
        if 4 * settings["width_multiplier"] < e.usual["width_multiplier"]:
            back["width_multiplier"] = e.usual["width_multiplier"]
        if 0 < settings["clip_grad"] < SMALLEST_CLIP:
            back["clip_grad"] = e.usual["clip_grad"]
        if 2 * settings["warmup_epochs"] > settings["epochs"] > 1:
            back["warmup_epochs"] = settings["epochs"] // 10
        if 0 < e.samples < limit * settings["batch_size"] and settings["batch_size"] > e.usual["batch_size"]:
            back["batch_size"] = e.usual["batch_size"]  # few updates in an epoch
        if settings.get("rate_target"):
            back["rate_target"] = 0.99  # which no layer exceeds
        return back

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if not e.epochs or not e.learns_poorly:
            return None
        far = self._far(e, limit)
        if 0 < e.samples * len(e.epochs) < NotLearning.fewest * e.settings["batch_size"] and "batch_size" not in far:
            return None  # after so few updates, nothing learns
        given = [f"{name} {e.settings[name]}" for name in far]
        ways = [f"Return to usual values: {', '.join(f'{name} {usual}' for name, usual in far.items())}."] if far else []
        if e.settings.get("freeze"):
            given.append(f"freeze {e.settings['freeze']}")
            ways.append("Train all layers, without --freeze.")
        return Found(", ".join(given), advice=" ".join(ways), settings=far) if given else None


@register("rule", "coarse-outputs")
class CoarseOutputs(
    Rule,
    measure="output_values",
    usual="more than T + 1",
    limit=1.0,
    severity="warning",
    alone=True,
    advice="Give the loss what the last neurons receive, the outputs of the layer before them, averaged over timesteps.",
):
    """The network's outputs are spike counts with few values, of which the loss sees only steps."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen)
        count = e.flow.get("output_values")
        return Found(count) if count is not None and count <= limit * (e.flow["T"] + 1) else None

    def _in_script(self, seen: "Seen") -> MaybeFound:
        """Neurons that are read and reset, of a regression whose targets are above their threshold."""
        outputs = seen.outputs
        last = list(seen.layers.values())[-1:]
        if outputs is None or outputs.targets is None or seen.skill > 0.5 or seen.steps < NotLearning.fewest or not last:
            return None
        read = last[0]
        fires = read.du and not (read.arriving or read.unreset or read.compares) and read.spikes > 0.02 * read.n
        if not fires or float(outputs.targets.max()) <= read.threshold:
            return None
        free = "Read the potential of neurons that are not reset: reset_mechanism='none', or a threshold above all targets."
        return Found(read.threshold, (read.name,), "threshold of the neurons that are read", advice=free)


@register("rule", "too-deep")
class TooDeep(
    Rule,
    measure="layers",
    usual="up to 12 layers of neurons",
    limit=12.0,
    severity="warning",
    alone=True,
    source="docs/evidence.md#e3-depth",
    advice="Use half of the layers, residual connections, or more epochs.",
):
    """The network has more layers than so short a training can reach, and its loss hardly fell."""

    plain = 4  # in a script that learns poorly

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        settings: dict[str, Any] = {}
        if e.seen is not None:
            poor = e.seen.steps >= NotLearning.fewest and e.seen.skill < 0.5
            limit = self.plain
        else:
            poor = e.learns_poorly and bool(e.epochs)
        if not poor or len(e.layers) <= limit:
            return None
        if e.settings.get("arch") == "resnet19":
            settings["depth"] = max(9, e.settings["depth"] // 4 * 2 + 1)
            if e.settings["residual"] == "none":
                settings["residual"] = "add"
        return Found(len(e.layers), settings=settings)


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
        if seen.backwards > max(8 * seen.steps, limit):
            once = f"Call step() and zero_grad() once for each of the {seen.backwards} backward passes."
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
    advice="Train for 10 times as many steps.",
):
    """The loss stays where it started, or accuracy near that of guessing, with signals and gradients in their usual ranges."""

    fewest = 50  # steps

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            return self._in_script(e.seen, limit)
        if len(e.epochs) < 3 or e.skill > 0.2:
            return None
        start = e.epochs[0].get("train_loss") or math.nan
        loss = e.last("train_loss")
        settings = e.rate(2) or e.back("epochs", 2)
        way = (
            "Try the settings of the command below"
            if settings
            else "Train longer, and try learning rates of 0.1, 0.01 and 0.001"
        )
        advice = f"{way}, and check that inputs and labels belong together and that no weight is frozen."
        return Found(loss, advice=advice, settings=settings) if loss > limit * start else None

    def _in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        # Of several tasks, the next one may have just begun.
        if seen.steps < self.fewest or seen.learned_before or seen.progresses:
            return None
        share = "share by which the loss fell"
        line = seen.lines.get("loss")
        if seen.progress <= 1 - limit:
            return Found(seen.progress, (), share, line)
        others = "Let the loss count what the accuracy counts: check its masks, weights and indices, and that each sample is compared with its label."
        guesses = seen.steps > 2 * self.fewest and seen.skill < 0.02
        return Found(seen.progress, (), share, line, others) if guesses else None
