"""Rules on a training that was watched: what the script does with its data, losses, parameters, modes and states."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import Evidence, Found, Remedy, Rule
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Parameters, Seen

MOST = 4  # names in a text
RESET = "Reset the neurons before each batch (snntorch: init_leaky() or utils.reset(net); spikingjelly: functional.reset_net(net); norse: state None)"


class ScriptRule(Rule):
    """A rule that applies where lsg watched a training."""

    def found(self, e: Evidence, limit: float) -> Found | None:
        return None if e.seen is None else self.in_script(e.seen, e, limit)

    @abstractmethod
    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        """What was seen that is outside its usual range; None if nothing is."""


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _failed(seen: "Seen", kind: type[BaseException], text: str) -> bool:
    return isinstance(seen.error, kind) and text in str(seen.error)


def _weights(seen: "Seen") -> "list[Parameters]":
    return [parameter for parameter in seen.parameters.values() if parameter.gradients]


@register("rule", "empty-optimiser")
class EmptyOptimiser(ScriptRule):
    """The optimiser was given no parameters: the network has none registered, or its generator of parameters was already used up."""

    measure, usual, limit, certain = "parameters", "those of the network", 0.0, True
    source = "torch.optim"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        return Found(0, where=seen.failed_at) if _failed(seen, ValueError, "empty parameter list") else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Give the optimiser net.parameters(), of a network whose layers are attributes of an nn.Module or in an nn.ModuleList, not in a plain list."
        )


@register("rule", "no-surrogate")
class NoSurrogate(ScriptRule):
    """The spikes have no gradient: a comparison such as u > v_th is not differentiable, and no surrogate replaces its gradient."""

    measure, usual, limit, certain = "spikes.requires_grad", "true", 0.0, True
    source = "Neftci et al. 2019"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        layers = [layer for layer in (seen.layers or seen.first_layers).values() if layer.detached]
        if not layers:
            return None
        return Found(False, tuple(layer.name for layer in layers), where=layers[0].where)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Use neurons with a surrogate gradient (lsg.LIF(), snn.Leaky(spike_grad=...), neuron.LIFNode(surrogate_function=...)), or an "
            "autograd.Function whose backward pass is the surrogate."
        )


@register("rule", "no-graph")
class NoGraph(ScriptRule):
    """The loss depends on no parameter through differentiable operations, so that backward() fails."""

    measure, usual, limit, certain = "loss.requires_grad", "true", 0.0, True
    source = "torch.autograd"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        return Found(False, where=seen.failed_at) if _failed(seen, RuntimeError, "does not require grad") else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Compute the loss from the network's outputs themselves: without argmax, round, item(), detach() or torch.tensor(...) between them and "
            "the loss, outside no_grad(), and with neurons that have a surrogate gradient."
        )


@register("rule", "graph-twice")
class GraphTwice(ScriptRule):
    """The backward pass reaches the graph of an earlier step: a state of neurons, or a loss, is carried from batch to batch."""

    measure, usual, limit, certain = "graph", "one backward pass each", 0.0, True
    source = "snntorch, issue 8; spikingjelly, functional.reset_net"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        texts = "backward through the graph a second time", "modified by an inplace operation"
        if not any(_failed(seen, RuntimeError, text) for text in texts):
            return None
        kept = [layer for layer in (seen.layers or seen.first_layers).values() if layer.kept]
        return Found(seen.steps, tuple(layer.name for layer in kept), where=seen.lines.get("backward"))

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            f"{RESET}, or detach() the state if it is to be kept. Sum the losses of timesteps, and call backward() once."
        )


@register("rule", "script-failed")
class ScriptFailed(ScriptRule):
    """The script ended with an error of its own."""

    measure, usual, limit, certain = "error", "none", 0.0, True

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        if (
            seen.error is None
            or isinstance(seen.error, KeyboardInterrupt)
            or any(rule().in_script(seen, e, 0.0) for rule in (EmptyOptimiser, NoGraph, GraphTwice))
        ):
            return None
        text = (str(seen.error).splitlines() or [""])[0]
        return Found(f"{type(seen.error).__name__}: {text}", where=seen.failed_at)

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Mend the error; what follows is what was seen before it.")


@register("rule", "no-backward")
class NoBackward(ScriptRule):
    """The optimiser steps without a backward pass before, so that parameters have no gradients."""

    measure, usual, limit, certain = "steps without backward()", "0", 1.0, True
    source = "torch.optim"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        return Found(seen.without_backward, where=seen.lines.get("step")) if seen.without_backward > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Call loss.backward() between zero_grad() and step(), in every iteration.")


@register("rule", "not-optimised")
class NotOptimised(ScriptRule):
    """Parameters have gradients, but no optimiser has them, so that they stay as they are."""

    measure, usual, limit, certain = "parameters without optimiser", "none", 0.0, True
    source = "DeepCrime: mutation operators"

    def _lacking(self, seen: "Seen") -> "list[Parameters]":
        return [
            parameter for parameter in _weights(seen) if not (parameter.optimised or parameter.frozen) and parameter.size > 1
        ]

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        lacking = self._lacking(seen)
        return Found(_names([parameter.name for parameter in lacking]), where=seen.lines.get("optimiser")) if lacking else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Give the optimiser net.parameters() of the network that runs, after all of its layers are built.")


@register("rule", "unchanged")
class Unchanged(ScriptRule):
    """An optimiser has the parameters and they have gradients, but their values do not change: the learning rate is 0, or they are overwritten."""

    measure, usual, limit, certain = "parameters unchanged", "none", 0.5, True

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        stuck = [
            parameter
            for parameter in _weights(seen)
            if parameter.optimised and any(parameter.gradients) and len(parameter.changed) > 1 and not any(parameter.changed)
        ]
        share = sum(parameter.size for parameter in stuck) / max(1, sum(parameter.size for parameter in _weights(seen)))
        return (
            Found(_names([parameter.name for parameter in stuck]), where=seen.lines.get("optimiser")) if share > limit else None
        )

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        rates = sorted({group["lr"] for group in e.seen.groups if "lr" in group}) if e.seen else []
        at = f" (now {', '.join(f'{rate:g}' for rate in rates)})" if rates else ""
        return Remedy(f"Check the learning rate{at}, its schedule, and the optimiser's parameters.")


@register("rule", "gradients-accumulate")
class GradientsAccumulate(ScriptRule):
    """Gradients are never set to zero: each step uses the sum of the gradients of all steps before."""

    measure, usual, limit, certain = "steps with gradients of earlier steps", "0", 1.0, True
    source = "TrainCheck (OSDI 2025); DeepFD"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        return Found(seen.accumulated, where=seen.lines.get("backward")) if seen.accumulated > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Call optimizer.zero_grad() in every iteration, before backward().")


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


@register("rule", "equal-weights")
class EqualWeights(ScriptRule):
    """All weights of a layer start with the same value, so that its neurons compute the same and get the same gradient."""

    measure, usual, limit, certain = "weights", "different", 0.0, True
    source = "DeepCrime: weights initialisation"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        equal = [parameter for parameter in _weights(seen) if parameter.equal and parameter.size > 1]
        return Found(_names([parameter.name for parameter in equal]), where=equal[0].where) if equal else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Initialise them at random, for example as torch does by default.")


@register("rule", "shared-weights")
class SharedWeights(ScriptRule):
    """Two layers have the same parameter, so that they learn together."""

    measure, usual, limit = "parameters in two layers", "none", 0.0
    severity = "note"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        pairs = [f"{first} is {second}" for first, second in seen.shared]
        return Found(_names(pairs)) if pairs else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Build a module for each layer, unless the weights are to be shared: [layer] * n repeats one module.")


@register("rule", "frozen")
class Frozen(ScriptRule):
    """Most weights are frozen (requires_grad is off)."""

    measure, usual, limit, certain = "share of weights that are frozen", "0", 0.5, True
    severity = "warning"
    source = "TrainCheck (OSDI 2025)"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        weights = _weights(seen)
        frozen = [parameter for parameter in weights if parameter.frozen]
        share = sum(parameter.size for parameter in frozen) / max(1, sum(parameter.size for parameter in weights))
        return Found(share, where=frozen[0].where) if share > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Set requires_grad of the weights, and give them to the optimiser.")


@register("rule", "without-gradient")
class WithoutGradient(ScriptRule):
    """Parameters get no gradient: nothing that the loss depends on uses them, or a detach() or a silent layer lies between."""

    measure, usual, limit, certain = "parameters without gradient", "none", 0.0, True
    alone, severity = True, "warning"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        lacking = [
            parameter
            for parameter in _weights(seen)
            if parameter.optimised and not parameter.frozen and parameter.size > 1 and not any(parameter.gradients)
        ]
        return Found(_names([parameter.name for parameter in lacking]), where=lacking[0].where) if lacking else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Look between these parameters and the loss for detach(), no_grad(), a loss of other outputs, and layers that never fire."
        )


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


def _update(seen: "Seen") -> float:
    """Median relative size of the last measured update of the weights; NaN if it is unknown."""
    updates = sorted(
        p.update for p in _weights(seen) if p.optimised and p.size > 64 and p.gradients[-1] and not math.isnan(p.update)
    )
    return updates[len(updates) // 2] if updates else math.nan


def _rates(seen: "Seen") -> str:
    return ", ".join(sorted({f"{group['lr']:g}" for group in seen.groups if "lr" in group}))


@register("rule", "steps-too-large")
class StepsTooLarge(ScriptRule):
    """Each step changes the weights by a large part of themselves, and the loss does not fall: the learning rate is too high."""

    measure, usual, limit = "relative size of an update", "1e-4 to 1e-2", 0.1
    source = "Karpathy's recipe: about 1e-3; TensorBoard callbacks of Cockpit"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        losses = seen.numbers()
        update = _update(seen)
        jumps = [b > 1.5 * a for a, b in itertools.pairwise(losses) if a > 0]
        overshoots = len(jumps) > 5 and sum(jumps) > 0.2 * len(jumps)
        if seen.progresses or not (update > limit or overshoots):
            return None
        return Found(update, where=seen.lines.get("optimiser"))

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        assert e.seen is not None
        return Remedy(f"Divide the learning rate (now {_rates(e.seen)}) by 10 or more.")


@register("rule", "steps-too-small")
class StepsTooSmall(ScriptRule):
    """Each step hardly changes the weights, and the loss hardly falls: the learning rate is too low."""

    measure, usual, limit = "relative size of an update", "1e-4 to 1e-2", 3e-5

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        update = _update(seen)
        slow = not seen.progress > 0.05
        return Found(update, where=seen.lines.get("optimiser")) if update < limit and slow and not seen.progresses else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        assert e.seen is not None
        factor = 10 ** round(math.log10(1e-3 / found.value)) if found.value > 0 else 10
        return Remedy(f"Multiply the learning rate (now {_rates(e.seen)}) by {min(factor, 10_000)}, or use Adam.")


@register("rule", "clipped")
class Clipped(ScriptRule):
    """Gradients are clipped to a small part of themselves before each step."""

    measure, usual, limit = "norm of the gradients at the step over that after backward()", "above 0.1", 0.01
    severity = "warning"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        ratio = sorted(seen.clipped)[len(seen.clipped) // 2] if seen.clipped else math.nan
        return Found(ratio, where=seen.lines.get("step")) if ratio < limit and not seen.progresses else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Clip to a larger norm, such as 1, or not at all.")


@register("rule", "evaluation-mode")
class EvaluationMode(ScriptRule):
    """Normalisation or dropout is in evaluation mode while the network trains: train() was not called again after eval()."""

    measure, usual, limit, certain = "modules in evaluation mode in training", "none", 0.0, True
    severity = "warning"
    source = "TrainCheck (OSDI 2025)"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        names = list(seen.evaluating)
        return Found(_names(names), where=seen.lines.get("network")) if names else None

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
        return Found(_names(names), where=seen.training[names[0]]) if names else None

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
