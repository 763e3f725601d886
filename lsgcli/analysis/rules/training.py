"""Rules on the whole of a training: its settings, its losses and accuracies, and what the network puts out."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lsgcli.analysis.measures import value
from lsgcli.analysis.rules.base import LEARNED, Evidence, Found, Remedy, Rule, off_by_a_factor
from lsgcli.registry import register

SMALLEST_CLIP = 0.01  # norm of gradients


@register("rule", "not-finite")
class NotFinite(Rule):
    """Weights, potentials or gradients grew until they were not finite."""

    measure, usual, limit = "loss", "finite", math.inf
    source = "spyx: learning rate / 10, gradients clipped at 1"

    def found(self, e: Evidence, limit: float) -> Found | None:
        if e.seen is not None:
            return self._in_script(e)
        measured = [key for key in ("u_mean", "grad_norm") if any(key in layer for layer in e.layers)]
        broken = tuple(layer["name"] for layer in e.layers if any(value(layer, key) is None for key in measured))
        return Found(None, broken) if e.diverged or broken or (e.layers and e.flow.get("loss") is None) else None

    def _in_script(self, e: Evidence) -> Found | None:
        assert e.seen is not None
        step = next((step for step, loss in enumerate(e.seen.numbers()) if not math.isfinite(loss)), None)
        broken = tuple(layer.name for layer in e.seen.layers.values() if layer.not_finite)
        if step is None and not broken:
            return None
        measure = "step of the first loss that is not finite" if step is not None else "dL/du"
        return Found(step, broken, measure, None if broken else e.seen.lines.get("loss"))

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if e.seen is not None and found.layers:
            return Remedy(
                f"The backward pass of the surrogate of {found.layers[0]} returns NaN or Inf: check it at 0 and at large potentials."
            )
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


def _off_by_a_half(own: float, usual: float, limit: float) -> bool:
    return abs(own - usual) > 0.5


@register("rule", "unusual-settings")
class UnusualSettings(Rule):
    """The network does not learn, with settings of training or data that are far from those usual for the data set."""

    measure, usual, limit = "settings", "within a factor of 10 of the data set's defaults", 10.0
    far: Mapping[str, Callable[[Any, Any, float], bool]] = {  # of a value, the usual value, and the limit
        "weight_decay": off_by_a_factor,
        "momentum": _off_by_a_half,
        "clip_grad": lambda own, usual, limit: 0 < own < SMALLEST_CLIP,  # 0: not clipped
        "dropout": _off_by_a_half,
        "label_smoothing": _off_by_a_half,
        "batch_size": off_by_a_factor,
        "decay_lr": off_by_a_factor,
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


@register("rule", "averaging")
class Averaging(Rule):
    """The average of the weights (--ema) contains many of their first values: it is too slow for this number of steps."""

    measure, usual, limit = "raw_val_accuracy", "within 0.05 of val_accuracy", 0.1

    def found(self, e: Evidence, limit: float) -> Found | None:
        raw = e.last("raw_val_accuracy")
        return Found(raw) if raw - e.last("val_accuracy") > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Train without the average, or with a smaller decay of it.", {"ema": 0.0})


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
    """The loss stays where it started, and accuracy near that of guessing, with signals and gradients in their usual ranges."""

    measure, usual, limit = "train_loss", "below 0.9 of its start", 0.9
    fewest = 50  # steps
    alone = True
    source = "spikingjelly, issue 338"

    def found(self, e: Evidence, limit: float) -> Found | None:
        if e.seen is not None:
            stays = e.seen.steps >= self.fewest and not e.seen.progresses and not e.seen.progress > 1 - limit
            return (
                Found(e.seen.progress, measure="share by which the loss fell", where=e.seen.lines.get("loss"))
                if stays
                else None
            )
        if len(e.epochs) < 3:
            return None
        start, loss = e.epochs[0].get("train_loss") or math.nan, e.last("train_loss")
        guesses = e.last("train_accuracy") < min(0.5, 3 / e.classes) if e.classes else True
        return Found(loss) if loss > limit * start and guesses else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        settings = e.back("lr", 2) or e.back("epochs", 2)
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
