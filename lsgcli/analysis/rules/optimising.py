"""Rules on what a watched script does with its parameters: optimisers, gradients, steps."""

import itertools
import math
import statistics
from typing import TYPE_CHECKING

from lsgcli.analysis.measures import fallen
from lsgcli.analysis.rules.base import Edit, Found, MaybeFound, ScriptRule, few, lowest_rate, rewritten, rounded
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Parameters, Seen


SMALLEST = 1e-6  # norm of a gradient that changes a parameter


def _weights(seen: "Seen") -> "list[Parameters]":
    return [parameter for parameter in seen.parameters.values() if parameter.gradients]


def _named(parameters: "list[Parameters]") -> MaybeFound:
    """A finding on some parameters; None if there are none with more than one value."""
    large = [parameter for parameter in parameters if parameter.size > 1]
    return Found(few([parameter.name for parameter in large]), where=large[0].where) if large else None


def _share(part: "list[Parameters]", whole: "list[Parameters]") -> float:
    return sum(parameter.size for parameter in part) / max(1, sum(parameter.size for parameter in whole))


def _largest(parameter: "Parameters") -> float:
    """The largest norm of its gradient."""
    return max((gradient or 0.0 for gradient in parameter.gradients), default=0.0)


def _changed_rate(seen: "Seen", factor: float) -> Edit:
    """The learning rate times a factor."""
    return rewritten(seen.lines.get("optimiser"), "lr", seen.rate, seen.rate * factor)


@register("rule", "no-step")
class NoStep(
    ScriptRule,
    measure="backward passes without a step",
    usual="0",
    limit=5.0,
    least="error",
    at="backward",
    advice="In every iteration, call optimizer.zero_grad(), loss.backward() and optimizer.step(); a scheduler's step() changes the learning rate only.",
):
    """An optimiser is built, but never steps."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        idle = not (seen.steps or seen.moved or seen.compiled) and seen.has_optimiser
        if idle and seen.ended and not seen.backwards:
            empty = "Check that the loop runs: the data loader may have no batch, as with drop_last and more samples in a batch than there are."
            return Found(0, where=seen.lines.get("optimiser"), advice=empty)
        return Found(seen.backwards) if idle and seen.backwards > limit else None


@register("rule", "gradients-lost")
class GradientsLost(
    ScriptRule,
    measure="steps without the gradients of backward()",
    usual="0",
    limit=0.5,
    least="error",
    at="step",
    source="torch.optim",
    advice="Keep the order zero_grad(), backward(), step(), in every iteration.",
):
    """The optimiser steps without the gradients of a backward pass: there was none, or they were set to zero after it."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.without_backward > 1:
            return Found(seen.without_backward)
        lost = seen.clipped.count(0.0)
        return Found(lost) if lost > limit * len(seen.clipped) else None


@register("rule", "gradients-accumulate")
class GradientsAccumulate(
    ScriptRule,
    measure="steps with gradients of earlier steps",
    usual="0",
    limit=1.0,
    least="error",
    at="backward",
    source="TrainCheck (OSDI 2025); DeepFD",
    advice="Call optimizer.zero_grad() in every iteration, before backward().",
):
    """Gradients are never set to zero: each step uses the sum of the gradients of all steps before."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        return Found(seen.accumulated) if seen.accumulated > limit else None


@register("rule", "not-optimised")
class NotOptimised(
    ScriptRule,
    measure="parameters without optimiser",
    usual="none",
    at="optimiser",
    source="DeepCrime: mutation operators",
    advice=(
        "Give the optimiser net.parameters() of the network that runs, after all of its layers are built, as attributes of modules or in an "
        "nn.ModuleList."
    ),
):
    """Parameters have gradients, but no optimiser has them."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        lacking = _named([p for p in _weights(seen) if any(p.gradients) and not p.optimised])
        return lacking._replace(where=None) if lacking else None


@register("rule", "frozen")
class Frozen(
    ScriptRule,
    measure="share of weights that are frozen",
    usual="0",
    limit=0.5,
    source="TrainCheck (OSDI 2025)",
    advice="Call net.requires_grad_(True) before the optimiser is built, and give it net.parameters().",
):
    """Most weights are frozen (requires_grad is off)."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        frozen = [parameter for parameter in _weights(seen) if parameter.frozen]
        share = _share(frozen, _weights(seen))
        return Found(share, where=frozen[0].where) if share > limit else None


@register("rule", "unchanged")
class Unchanged(
    ScriptRule,
    measure="parameters unchanged",
    usual="none",
    limit=0.5,
    least="error",
    at="optimiser",
):
    """An optimiser has the parameters and they have gradients, but its steps do not change their values: the learning rate is 0."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.backwards > 5 and not (seen.has_optimiser or seen.steps or seen.moved):
            place = "Update parameters in place, inside torch.no_grad(): w -= lr * w.grad; w = w - lr * w.grad makes a new tensor. Or use an optimiser."
            return Found("all", where=seen.lines.get("backward"), advice=place)
        stuck = [
            parameter
            for parameter in _weights(seen)
            if parameter.optimised
            and _largest(parameter) > SMALLEST
            and len(parameter.updates) > 1
            and not any(parameter.updates)
        ]
        found = _named(stuck) if _share(stuck, _weights(seen)) > limit else None
        check = f"Check the learning rate (now {seen.rate:g}), its schedule, and the optimiser's parameters."
        return found._replace(where=None, advice=check) if found else None


@register("rule", "overwritten")
class Overwritten(
    ScriptRule,
    measure="steps before which the weights were overwritten",
    usual="0",
    limit=1.0,
    advice="Leave the weights as the optimiser's step leaves them: without load_state_dict(), clamp_() or initialisation between steps.",
):
    """The weights are overwritten between steps of the optimiser, which takes back what they have learned."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        # A constraint on the weights is applied at each step, and does little harm.
        learns = seen.progresses if math.isnan(seen.skill) or 2 * seen.overwritten > seen.steps else seen.skill > 0.8
        where = seen.line_with(r"load_state_dict\(")
        return Found(seen.overwritten, where=where) if seen.overwritten > limit and not learns else None


@register("rule", "wrong-sign")
class WrongSign(
    ScriptRule,
    measure="loss of backward()",
    usual="above 0",
    at="backward",
):
    """The loss is maximised: backward() is called on its negative, the optimiser maximises, its targets are lowest for the correct class, or a surrogate turns the gradient or ignores it."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        losses = seen.numbers()
        if ignoring := tuple(layer.name for layer in seen.layers.values() if layer.ignores):
            chain = f"Multiply what the backward pass of the surrogate of {ignoring[0]} returns by the gradient that it is given (grad_output)."
            return Found(1.0, ignoring, "gradient of the surrogate where none arrives", seen.line_of(ignoring[0]), chain)
        if negative := tuple(seen.negative):
            turn = f"Change the sign of what the backward pass of the surrogate of {negative[0]} returns."
            return Found(-1.0, negative, "sign of the surrogate", seen.line_of(negative[0]), turn)
        uphill = statistics.median(seen.pull) if len(seen.pull) > 2 else -1.0
        if uphill > 0.1 and seen.smoothing < 0.9:
            return Found(
                uphill,
                measure="gradient at the outputs of the labels' classes",
                advice="Minimise the loss: check its sign, and that the correct class has the highest target.",
            )
        # A loss without a bound below, of the script's own, falls whether or not its network learns.
        falls = len(losses) > 20 and losses[-1] < 10 * losses[0] < 0 and seen.recent(seen.evaluated) < 0.5
        ascends = (
            "Build the optimiser without maximize=True."
            if seen.maximises
            else "Call backward() on the loss, not on its negative."
        )
        return Found(losses[-1], advice=ascends) if falls or (seen.maximises and not seen.progresses) else None


@register("rule", "signal-lost")
class SignalLost(
    ScriptRule,
    measure="share of the input that is not 0",
    usual="that of the spikes before it",
    limit=0.003,
    advice="Add what is multiplied there, as in spikes + shortcut, and check masks, dropout and pooling between neurons and these weights.",
):
    """Weights receive hardly any signal, although all neurons fire: spikes are multiplied, masked or pooled away on the way to them."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if not (seen.steps and seen.records) or lowest_rate([*seen.first.values(), *seen.records]) <= 0.01:
            return None
        for name, given in seen.entering.items():
            share = statistics.fmean(given)
            if share < limit:
                where = next((p.where for p in seen.parameters.values() if p.name.startswith(f"{name}.")), None)
                return Found(share, (name,), where=where)
        return None


@register("rule", "penalty")
class Penalty(
    ScriptRule,
    measure="share by which the loss of the outputs fell",
    usual="that of the whole loss",
    limit=0.05,
    at="backward",
):
    """A term beside the loss of the outputs outweighs it: their sum falls, but that loss does not."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        fell = fallen(seen.parts)
        if seen.progresses or not fell < limit < seen.progress - 0.15:
            return None
        part = float(seen.parts[0])
        whole = float(seen.losses[0])
        factor = min(0.1, 0.1 * abs(part / (whole - part or math.inf)))
        less = f"Multiply the term that is added to the loss by {rounded(factor)}, and check its sign: it should have the smaller part in the gradient."
        return Found(fell, advice=less)


@register("rule", "equal-weights")
class EqualWeights(
    ScriptRule,
    measure="weights",
    usual="different",
    source="DeepCrime: weights initialisation",
    advice="Initialise them at random, for example as torch does by default.",
):
    """All weights of a layer start with the same value, so that its neurons compute the same."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        matrices = [parameter for parameter in _weights(seen) if parameter.equal is not None]
        return _named([parameter for parameter in matrices[:-1] if parameter.equal])  # the last may start at 0


@register("rule", "shared-weights")
class SharedWeights(
    ScriptRule,
    measure="modules and parameters in two layers",
    usual="none",
    severity="warning",
    advice="Build a module for each layer, unless it is to be shared: [layer] * n repeats one module.",
):
    """Two layers are the same module or have the same parameter."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        return Found(few([f"{first} is {second}" for first, second in seen.shared])) if seen.shared else None


@register("rule", "without-gradient")
class WithoutGradient(
    ScriptRule,
    measure="parameters without gradient",
    usual="none",
    least="warning",
):
    """Parameters get no gradient: nothing that the loss depends on uses them, or a detach() lies between."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        without = [p for p in _weights(seen) if p.optimised and not p.frozen]
        none = [p for p in without if set(p.gradients) == {None}]
        zero = [p for p in without if len(p.gradients) > 2 and not _largest(p)]
        # Of most weights: the loss may depend on one layer alone through timesteps that are not there.
        most = lowest_rate(seen.records) > 0.01 and 0.5 < _share(zero, _weights(seen)) < 1
        found = _named(zero if most else none)
        advice = "Remove the detach(), .data, no_grad() or rounding between {} and the loss, or let the loss depend on them."
        if seen.flat and not seen.skill > 0.65:
            found = found or Found(seen.flat, measure="operation whose derivative is 0")
            advice = f"Pass the gradient through {seen.flat}(): w + (w.{seen.flat}() - w).detach() instead of w.{seen.flat}()."
        return found and found._replace(advice=advice.format(found.value))


@register("rule", "steps-too-large")
class StepsTooLarge(
    ScriptRule,
    measure="relative size of an update",
    usual="1e-4 to 1e-2",
    limit=0.1,
    at="optimiser",
    source="Karpathy's recipe: about 1e-3; TensorBoard callbacks of Cockpit",
):
    """Each step changes the weights by a large part of themselves, and the loss does not fall: the learning rate is too high."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        poor = not seen.progresses or seen.skill < 0.5
        # Where little is learned, also of one weight at one step; of NaN, max() returns the first.
        update = max(seen.largest_update / 5, seen.update) if poor else seen.update
        if lowest_rate([*seen.first.values(), *seen.records]) < 0.01:
            limit *= 5  # weights that are too small from the start change by much, too
        jumps = [b > 1.5 * a for a, b in itertools.pairwise(seen.numbers()) if a > 0]
        overshoots = len(jumps) > 5 and sum(jumps) > 0.2 * len(jumps) and not seen.progresses
        if not update > limit and not overshoots:
            return None
        factor = 10.0 ** min(-1, round(math.log10(1e-2 / update))) if 0 < update < math.inf else 0.1
        less = _changed_rate(seen, factor)
        return Found(update, advice=f"Decrease the learning rate: {less}.", edits=(less,))


@register("rule", "clipped")
class Clipped(
    ScriptRule,
    measure="norm of the gradients at the step over that after backward()",
    usual="above 0.1",
    limit=0.01,
    at="step",
    advice="Clip gradients to a norm of 1, as with clip_grad_norm_(net.parameters(), 1.0); with a GradScaler, call scaler.unscale_(optimizer) before.",
):
    """Gradients are clipped to a small part of themselves before each step."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        ratio = sorted(seen.clipped)[len(seen.clipped) // 2] if seen.clipped else math.nan
        # Where gradients explode, a norm of 1 is enough.
        left = math.hypot(*(parameter.gradients[-1] or 0.0 for parameter in _weights(seen)))
        return Found(ratio) if 0 < ratio < limit and left < 0.1 and not seen.progresses else None


@register("rule", "steps-too-small")
class StepsTooSmall(
    ScriptRule,
    measure="relative size of an update",
    usual="1e-4 to 1e-2",
    limit=1e-4,
    least="warning",
    at="optimiser",
):
    """Each step hardly changes the weights: the learning rate is too low, or a schedule keeps it low."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.low > 0.5 * seen.steps and not seen.skill > 0.95:
            often = f"Call the scheduler's step() once an epoch instead of at each step, or if it warms up, at each step: of a learning rate of {rounded(seen.highest_rate)}, it leaves {rounded(seen.rate)}."
            return Found(
                seen.rate / seen.highest_rate,
                (),
                "share of the learning rate",
                seen.line_with(r"(?i)(sched|warm)\w*\.step\("),
                often,
            )
        update = seen.update
        rate = lowest_rate(seen.records)
        if seen.steps > 50 and rate > 0.01:
            limit = max(limit, seen.least_update)
        if not 0 < update < limit or seen.progress > 0.1 or seen.progresses or seen.smoothing > 0.9:
            return None
        # In a step before, they were too large; without normalised steps, they are small because gradients are.
        if seen.largest_update > 0.5 or not (
            seen.adaptive or (rate >= limit and seen.rate <= 0.1 * (1 - seen.settings.get("momentum", 0)))
        ):
            return None
        factor = 10.0 ** min(6, max(1, round(math.log10(2e-3 / update))))
        more = _changed_rate(seen, factor)
        return Found(update, advice=f"Increase the learning rate: {more}.", edits=(more,))


@register("rule", "weight-decay")
class WeightDecay(
    ScriptRule,
    measure="weight decay",
    usual="0 to 0.01",
    limit=0.05,
    at="optimiser",
):
    """Weight decay shrinks the weights faster than the loss can hold against."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        less = rewritten(seen.lines.get("optimiser"), "weight_decay", seen.weight_decay, 5e-4)
        advice = f"Decrease it: {less}."
        if seen.shrink > 0.01 and not seen.skill > 0.95:
            steps = math.log(2) / seen.shrink
            halved = "steps in which weight decay alone halves the weights"
            return Found(steps, measure=halved, advice=advice, edits=(less,))
        above = seen.weight_decay > limit and not seen.shrink and not seen.progresses
        return Found(seen.weight_decay, advice=advice, edits=(less,)) if above else None
