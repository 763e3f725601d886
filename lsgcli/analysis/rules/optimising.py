"""Rules on what a watched script does with its parameters: optimisers, gradients, steps."""

import itertools
import math
from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import Evidence, Found, Remedy, ScriptRule, few
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Parameters, Seen


def _weights(seen: "Seen") -> "list[Parameters]":
    return [parameter for parameter in seen.parameters.values() if parameter.gradients]


def _update(seen: "Seen") -> float:
    """Median relative size of the last measured update of the weights; NaN if it is unknown."""
    updates = sorted(
        p.update for p in _weights(seen) if p.optimised and p.size > 64 and p.gradients[-1] and not math.isnan(p.update)
    )
    return updates[len(updates) // 2] if updates else math.nan


def _rates(seen: "Seen") -> str:
    return ", ".join(f"{rate:g}" for rate in sorted(set(seen.rates)))


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

    measure, usual, limit = "parameters without optimiser", "none", 0.0  # in a reservoir, on purpose
    source = "DeepCrime: mutation operators"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        lacking = [
            parameter for parameter in _weights(seen) if not (parameter.optimised or parameter.frozen) and parameter.size > 1
        ]
        return Found(few([parameter.name for parameter in lacking]), where=seen.lines.get("optimiser")) if lacking else None

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
        return Found(few([parameter.name for parameter in stuck]), where=seen.lines.get("optimiser")) if share > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        assert e.seen is not None
        return Remedy(f"Check the learning rate (now {_rates(e.seen)}), its schedule, and the optimiser's parameters.")


@register("rule", "gradients-accumulate")
class GradientsAccumulate(ScriptRule):
    """Gradients are never set to zero: each step uses the sum of the gradients of all steps before."""

    measure, usual, limit, certain = "steps with gradients of earlier steps", "0", 1.0, True
    source = "TrainCheck (OSDI 2025); DeepFD"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        return Found(seen.accumulated, where=seen.lines.get("backward")) if seen.accumulated > limit else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Call optimizer.zero_grad() in every iteration, before backward().")


@register("rule", "equal-weights")
class EqualWeights(ScriptRule):
    """All weights of a layer start with the same value, so that its neurons compute the same and get the same gradient."""

    measure, usual, limit, certain = "weights", "different", 0.0, True
    source = "DeepCrime: weights initialisation"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        equal = [parameter for parameter in _weights(seen) if parameter.equal and parameter.size > 1]
        return Found(few([parameter.name for parameter in equal]), where=equal[0].where) if equal else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy("Initialise them at random, for example as torch does by default.")


@register("rule", "shared-weights")
class SharedWeights(ScriptRule):
    """Two layers have the same parameter, so that they learn together."""

    measure, usual, limit = "parameters in two layers", "none", 0.0
    severity = "note"

    def in_script(self, seen: "Seen", e: Evidence, limit: float) -> Found | None:
        pairs = [f"{first} is {second}" for first, second in seen.shared]
        return Found(few(pairs)) if pairs else None

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
        return Found(few([parameter.name for parameter in lacking]), where=lacking[0].where) if lacking else None

    def remedy(self, e: Evidence, found: Found) -> Remedy:
        return Remedy(
            "Look between these parameters and the loss for detach(), no_grad(), a loss of other outputs, and layers that never fire."
        )


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
