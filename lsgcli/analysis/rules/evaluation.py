"""Rules on what a network is evaluated by: decisions and scores of a script, and what differs between training and evaluation."""

import math
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.rules.base import Evidence, Found, MaybeFound, Rule, ScriptRule, few, off_by_a_factor, rewritten, rounded
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen


@register("rule", "metric")
class Metric(
    ScriptRule,
    measure="accuracy of the script",
    usual="that of the network's own decisions",
    limit=0.05,
    least="warning",
    at="evaluation",
):
    """The evaluation does not count what the network decides: outputs are decoded otherwise than the loss takes them, or compared with other labels."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        last = [one for one in seen.decisions if one.step == seen.decisions[-1].step]
        # Of several comparisons, the best: others may be of earlier timesteps.
        accuracy, own = max([(one.accuracy, one.own) for one in last], default=(math.nan, math.nan))
        surely = limit + 1 / math.sqrt(1 + sum(one.samples for one in last))
        # Other weights, and those of first steps, have outputs of another scale for each class.
        same = not (seen.restored or seen.elsewhere) and own < seen.recent(seen.accuracy) + 0.1
        # Far below guessing, a decision is turned, whatever the network's own is.
        decides = seen.skill > 0.4 and ((same and own - accuracy > surely) or accuracy < 0.5 * seen.chance)
        fit = seen.correlation
        decode = "Decode outputs in evaluation as the loss takes them (groups of neurons, axis, maximum or minimum, time of the decision), and compare them with the labels of these inputs."
        scale = "Undo in evaluation what was done to the targets of training: predictions times their standard deviation, plus their mean."
        if decides:
            counted = f"accuracy of the network's own decisions {own:.3g}, of the script"
            return Found(accuracy, measure=counted, advice=decode)
        if abs(fit) > 0.7 and seen.evaluated_explained < fit * abs(fit) - 0.3:
            explained = f"R^2 of predictions whose correlation with the targets is {rounded(fit)}"
            return Found(seen.evaluated_explained, measure=explained, advice=scale)
        return None


@register("rule", "training-mode")
class TrainingMode(
    ScriptRule,
    measure="modules in training mode in evaluation",
    usual="none",
    severity="warning",
    least="warning",
    source="TrainCheck (OSDI 2025)",
    advice="Call net.eval() before evaluation, and net.train() after it; give F.dropout training=self.training.",
):
    """Normalisation or dropout is in training mode while the network is evaluated."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        names = list(seen.training)
        return Found(few(names), where=seen.training[names[0]]) if names else None


@register("rule", "evaluation-input")
class EvaluationInput(
    ScriptRule,
    measure="input.std in evaluation over that in training",
    usual="0.5 to 2",
    limit=2.0,
    least="warning",
    at="evaluation",
    advice="Apply the same scaling and normalisation, with the statistics of the training data, to both.",
):
    """The inputs in evaluation have another scale than those in training, another order of features or axes, or other timesteps."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        train = seen.trained_input
        other = seen.evaluated_input
        if seen.ranked > 0.8:
            return None
        trained, evaluated = (seen.fires[grads] / max(1, seen.runs[grads]) for grads in (True, False))
        # A part of a network that is called by itself has fewer.
        if (
            len(seen.networks) == 1
            and trained > 1
            and evaluated
            and off_by_a_factor(evaluated, trained, 1.5)
            and seen.gap > 0.03
        ):
            equal = "Evaluate with as many timesteps as in training."
            calls = "calls of neurons in evaluation over those in training"
            return Found(evaluated / trained, measure=calls, advice=equal)
        if not (train and other and train["std"] > 0):
            return None
        ratio = other["std"] / train["std"]
        shift = (other["mean"] - train["mean"]) / train["std"]
        if ratio > limit or ratio < 1 / limit:  # neither of NaN
            return Found(ratio)
        if abs(shift) > 1:
            return Found(shift, measure="difference of the input's means over its standard deviation")
        a = train.get("rows", ())
        b = other.get("rows", ())
        if len(a) > 1 and len(b) and a.shape[1] == b.shape[1] and a.std(0).any() and not seen.gap < 0.1:
            shifts = (a.mean(0) - b.mean(0)).abs() / a.std(0)
            moved = float(shifts[a.std(0) > 0].nanmedian())  # without rare spikes; 0.2 between batches
            if moved > 0.6:
                order = "Order features, axes and timesteps in evaluation as in training."
                median = "difference of a feature's means over its standard deviation, in the median"
                return Found(moved, measure=median, advice=order)
        return None


@register("rule", "averaging")
class Averaging(
    Rule,
    measure="raw_val_accuracy",
    usual="within 0.05 of val_accuracy",
    limit=0.1,
    least="warning",
    advice=(
        "Evaluate the network with the weights of its last step (of its best epoch by the evaluation), or an average with a smaller decay (0.9 for 100 "
        "steps): check load_state_dict(), and copies."
    ),
):
    """The weights that are evaluated are not the last of the training: an average (--ema) that is too slow, another copy, or weights of an earlier state."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            gap = e.seen.gap if e.seen.elsewhere or e.seen.restored else math.nan
            before = [one.balanced for one in e.seen.decisions if not one.restored]  # scores that the script has seen
            if e.seen.restored and before:
                gap = max(max(before) - e.seen.decisions[-1].balanced, gap)
            above = "accuracy of the trained network above that of the evaluated one"
            found = Found(gap, measure=above, where=e.seen.line_with(r"load_state_dict\(") or e.seen.lines.get("evaluation"))
            return found if gap > 2 * limit and e.seen.skill > 0.5 else None
        raw = e.last("raw_val_accuracy")
        return Found(raw, settings={"ema": 0.0}) if raw - e.last("val_accuracy") > limit else None


@register("rule", "running-statistics")
class RunningStatistics(
    Rule,
    measure="eval_gap",
    usual="below 0.1",
    limit=0.2,
    source="spikingjelly, issues 157 and 559",
):
    """The running statistics of normalisation are not those of the data: too few updates, too small batches, or another T."""

    slowest = 1e-3  # momentum
    smallest = 8  # samples that are normalised together

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.settings.get("norm") == "none":
            return None
        size = e.settings.get("batch_size", math.inf) / e.settings.get("accumulate", 1)
        if e.seen is not None and e.seen.momenta:
            slowest, where = min(e.seen.momenta.values(), key=lambda pair: pair[0])
            if slowest < self.slowest or (e.seen.steps > 50 and slowest * e.seen.steps < 0.5 and not e.seen.gap < 0.1):
                faster = rewritten(where, "momentum", slowest, 0.1)
                advice = f"Use a larger momentum, {faster}: the share of the newest batch."
                return Found(slowest, (), "momentum", where, advice, edits=(faster,))
            size = e.seen.batch or size
        settings: dict[str, Any] = {}
        if size < self.smallest and e.settings:
            settings = {"batch_size": max(16, e.usual["batch_size"])} if e.settings["batch_size"] < 16 else {}
            settings |= {"accumulate": 1} if e.settings["accumulate"] > 1 else {}
        gap = e.flow.get("eval_gap")
        if gap is not None and gap > limit:
            again = "Train with batches of 16 or more, a momentum of 0.1, and the same T and inputs as in evaluation."
            if e.settings:
                again = "Estimate them again on training batches: lsg eval CKPT --refresh-norm 100 --out NEW.safetensors. In training: more steps, or larger batches."
            return Found(gap, advice=again, settings=settings or e.back("batch_size", 4) | e.back("epochs", 2))
        larger = "Use larger batches, of 16 or more: normalisation computes its statistics of them."
        small = Found(size, (), "samples that are normalised together", advice=larger, settings=settings)
        return small if size < self.smallest else None


@register("rule", "overfitting")
class Overfitting(
    Rule,
    measure="train_accuracy",
    usual="within 0.15 of validation",
    limit=0.2,
    severity="warning",
    advice="Train with more samples, augment the data (--augment), increase the weight decay, or use a smaller network.",
):
    """Training accuracy is high, but validation accuracy does not follow."""

    def found(self, e: Evidence, limit: float) -> MaybeFound:
        if e.seen is not None:
            train = e.seen.recent(e.seen.accuracy)
            gap = e.seen.gap
        else:
            train = e.last("train_accuracy")
            held_out = e.last("val_accuracy"), e.last("raw_val_accuracy")  # the latter without the average of the weights
            gap = min(train - held_out[0], train - held_out[1])
        settings = e.scaled("weight_decay", 4) if e.settings.get("weight_decay") else {}
        return Found(train, settings=settings) if gap > limit and train > 0.9 else None
