"""Rules on what goes into and comes out of a watched network: inputs, labels, outputs, modes and states."""

from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import RESET, Evidence, Found, Remedy, ScriptRule, few
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen


@register("rule", "state-kept")
class StateKept(ScriptRule):
    """Neurons start a batch with the state that the batch before left, so that outputs depend on the order of the batches."""

    measure, usual, limit = "state at the start of a batch", "at rest", 0.0
    source = "spikingjelly, issues 318 and 594"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        kept = [layer for layer in seen.layers.values() if layer.kept]
        return Found("not at rest", tuple(layer.name for layer in kept)) if kept else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(f"{RESET}, in training and in evaluation.")


@register("rule", "batch-as-time")
class BatchAsTime(ScriptRule):
    """The network runs along the axis of the samples as if it were time: inputs are (B, T, ...), where (T, B, ...) is expected."""

    measure, usual, limit = "timesteps", "other than the batch size", 0.0
    source = "spikingjelly, issue 594"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        mixed = [
            layer
            for layer in seen.layers.values()
            if seen.batch > 1 and layer.calls == seen.batch and layer.shape and layer.shape[0] != seen.batch
        ]
        return Found(seen.batch, tuple(layer.name for layer in mixed), where=seen.lines.get("network")) if mixed else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Move the axis of time to the front (x.transpose(0, 1)), or loop over the axis of time.")


@register("rule", "softmax-before-loss")
class SoftmaxBeforeLoss(ScriptRule):
    """The loss applies a (log) softmax or sigmoid itself, but is given outputs that already are probabilities, which flattens its gradient."""

    measure, usual, limit, certain = "outputs", "logits", 1e-3, True
    source = "DeepFD; torch.nn.CrossEntropyLoss"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        if (outputs := seen.outputs) is None or outputs.values.dim() < 2:
            return None
        values = outputs.values / outputs.calls
        low, high = float(values.min()), float(values.max())
        if outputs.loss == "nll_loss":
            return Found("not log-probabilities", where=outputs.where) if high > limit else None
        probabilities = low >= 0 and high <= 1 and float((values.sum(1) - 1).abs().max()) < limit
        return Found("probabilities", where=outputs.where) if outputs.loss == "cross_entropy" and probabilities else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        if found.value == "probabilities":
            return Remedy(
                "Remove the softmax: give cross_entropy the logits, such as membrane potentials or the outputs of a linear layer."
            )
        return Remedy("Use cross_entropy, or apply log_softmax before nll_loss.")


@register("rule", "zero-outputs")
class ZeroOutputs(ScriptRule):
    """The outputs of most samples are all zero: a ReLU, or neurons that do not fire, stand before the loss."""

    measure, usual, limit = "share of samples whose outputs are all 0", "0", 0.5

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        if (outputs := seen.outputs) is None or outputs.values.dim() < 2:
            return None
        share = float((outputs.values == 0).all(1).float().mean())
        return Found(share, where=outputs.where) if share > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Read out the membrane potential or a linear layer instead, or lower the threshold of the last layer.")


@register("rule", "saturated-outputs")
class SaturatedOutputs(ScriptRule):
    """The outputs are so large that the softmax is 0 or 1, and samples that are wrong hardly correct it."""

    measure, usual, limit = "largest minus smallest output of a sample", "below 20", 60.0

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        outputs = seen.outputs
        if outputs is None or outputs.values.dim() < 2 or outputs.loss != "cross_entropy":
            return None
        values = outputs.values / outputs.calls
        spread = float((values.amax(1) - values.amin(1)).median())
        return Found(spread, where=outputs.where) if spread > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(f"Average over timesteps instead of summing, or divide the outputs by {found.value / 5:.2g}.")


@register("rule", "input-constant")
class InputConstant(ScriptRule):
    """The network's input does not tell samples apart: it is constant, or the same for all samples, or not finite."""

    measure, usual, limit, certain = "input", "different samples", 0.0, True

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        known = seen.input
        if not known:
            return None
        what = {
            "not finite": not known["finite"],
            "constant": known["std"] == 0,
            "equal samples": known["equal_samples"] == 1,
        }
        found = next((name for name, holds in what.items() if holds), None)
        return Found(found, where=seen.lines.get("network")) if found else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Look at a batch of the data loader: its scale, its transforms, and missing values.")


@register("rule", "classes")
class Classes(ScriptRule):
    """The labels are all, or nearly all, of one class."""

    measure, usual, limit = "share of the most frequent label", "1 / classes", 0.8
    severity = "warning"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        if seen.classes < 2 or seen.labels.total() < 4 * seen.classes:
            return None
        share = max(seen.labels.values()) / seen.labels.total()
        return Found(share, where=seen.lines.get("loss")) if share > max(limit, 1.2 / seen.classes) else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Shuffle the training data, check how labels are read, and weight the classes in the loss.")


@register("rule", "evaluation-mode")
class EvaluationMode(ScriptRule):
    """Normalisation or dropout is in evaluation mode while the network trains: train() was not called again after eval()."""

    measure, usual, limit, certain = "modules in evaluation mode in training", "none", 0.0, True
    severity = "warning"
    source = "TrainCheck (OSDI 2025)"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        names = list(seen.evaluating)
        return Found(few(names), where=seen.lines.get("network")) if names else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Call net.train() before each epoch of training.")


@register("rule", "training-mode")
class TrainingMode(ScriptRule):
    """Normalisation or dropout is in training mode while the network is evaluated: accuracies are those of another network, and running statistics learn from test data."""

    measure, usual, limit, certain = "modules in training mode in evaluation", "none", 0.0, True
    severity = "warning"
    source = "TrainCheck (OSDI 2025)"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        names = list(seen.training)
        return Found(few(names), where=seen.training[names[0]]) if names else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Call net.eval() before evaluation, and net.train() after it.")


@register("rule", "dropout")
class Dropout(ScriptRule):
    """Dropout drops nearly everything."""

    measure, usual, limit = "p", "0 to 0.5", 0.8
    source = "DeepCrime: dropout rate"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        high = {name: found for name, found in seen.dropouts.items() if found[0] >= limit}
        if not high:
            return None
        name = max(high, key=lambda name: high[name][0])
        return Found(high[name][0], where=high[name][1])

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Use a rate of 0.2 to 0.5; p is the share that is dropped.")
