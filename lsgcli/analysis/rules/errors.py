"""Rules on errors that end a watched script, and on spikes without a gradient."""

import math
import re
from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import Found, MaybeFound, ScriptRule, reset_of
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

NO_GRAPH = "does not require grad"
NO_DERIVATIVE = "derivative for"
IN_PLACE = "modified by an inplace operation"
CHANGES_IN_PLACE = (  # but for counters and sums of numbers
    r"^(?!.*(\.item\(|\b(len|int|float)\(|[-+]= *1$))"
    r"(\s*(.*;\s*)?\w+(\[.*\])?\s*([-+*/]=|(?<=\])\s*=[^=])|.*\.(add|sub|mul|div|copy|zero|fill|clamp|masked_fill)_\()"
)
COMPUTED = (
    r"output \d+ of (?!(T|Transpose|AsStrided|Permute|View|Alias)(Backward\d*)?\b)"  # rather than a weight, or a view of one
)
TWICE = "backward through the graph a second time", IN_PLACE
# A rule, a regular expression of an error's type and first line, and the remedy, into which its groups are put; without a remedy, the rule has its own.
CRASHES = (
    (
        "empty-optimiser",
        "empty parameter list",
        "Give the optimiser net.parameters(), of a network whose layers are attributes of an nn.Module or in an "
        "nn.ModuleList, not in a plain list.",
    ),
    (
        "no-surrogate",
        "derivative for",
        "",
    ),
    (
        "no-graph",
        "does not require grad",
        "",
    ),
    (
        "in-place",
        "used in an in-place operation|being modified inplace",
        "Make a new tensor instead: u = u + x, not u += x; change parameters inside torch.no_grad().",
    ),
    (
        "graph-twice",
        "backward through the graph a second time|modified by an inplace operation",
        "",
    ),
    (
        "labels",
        r"Target -?\d+ is out|Class values must|device-side assert|target should be between",
        "Count labels from 0, and give the last layer as many outputs as there are classes.",
    ),
    (
        "running-statistics",
        "more than 1 value per channel",
        "Give the data loader drop_last=True, or batches that leave no single sample: normalisation in training needs two or "
        "more.",
    ),
    (
        "input-scale",
        "p_in >= 0",
        "Spikes are drawn with probabilities from 0 to 1: divide the inputs by their largest value, x / x.max(), before they "
        "are encoded.",
    ),
    (
        "types",
        "target dtype to be|expected scalar type Long|target with class probabilities|multi-target",
        "Give cross_entropy outputs (B, classes) and class numbers (B) of dtype int64: y.long(), y.squeeze(1) without an "
        "axis of size 1, or y.argmax(1) of one-hot targets.",
    ),
    (
        "types",
        "the same dtype|should be the same|not implemented for '|Found dtype|be cast to the desired|infer output "
        "dtype|expected scalar type",
        "Give all tensors of this call one dtype: x.float() for inputs, states and targets that are numbers, y.long() for "
        "class numbers.",
    ),
    (
        "types",
        r"the same device|expected device|compiled with CUDA|NVIDIA driver|numpy\(\)|cuda.* to numpy",
        "Keep network, batches and states on one device: net.to(device), x.to(device), torch.zeros(..., device=x.device); "
        "and x.detach().cpu().numpy() for NumPy.",
    ),
    (
        "types",
        "not tuple|'tuple' object|values to unpack",
        "Check what this call returns: neurons give spikes and state, as in spikes, state = lif(x, state); inside "
        "nn.Sequential, they keep their state (snntorch: init_hidden=True, and output=True in the last layer alone; norse: "
        "SequentialState).",
    ),
    (
        "types",
        "^TypeError",
        "Check the names, number and types of the arguments of this call.",
    ),
    (
        "batch-as-time",
        r"input batch_size \(\d+\) to match target",
        "The loss needs as many outputs as labels, (B, classes) and (B): average outputs over the axis of time alone, and "
        "keep the first axis in view() and reshape(), as in (x.shape[0], -1).",
    ),
    (
        "shapes",
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x",
        "The layer is given {0} features and takes {1}: build it with {0} inputs, or give it (B, {1}): x.flatten(1) of "
        "images, x[t] or x.flatten(2) of (T, B, ...).",
    ),
    (
        "shapes",
        r"to have (\d+) channels, but got (\d+) channels",
        "The convolution takes {0} channels and is given {1}: build it with {1}, or order axes as (B, {0}, ...), with time "
        "in a loop or merged into the batch.",
    ),
    (
        "shapes",
        r"running_mean should contain (\d+) elements not (\d+)",
        "Build this normalisation for {0} features, the size of axis 1 of its input.",
    ),
    (
        "shapes",
        r"[eE]xpected \dD|[eE]xpect(ed)? .*shape \[",
        "Layers of torch take no axis of time: loop over x[t], or merge it with x.flatten(0, 1), or use layers of the "
        "library with a step mode (spikingjelly: functional.set_step_mode(net, 'm')). Add a missing axis with unsqueeze().",
    ),
    (
        "shapes",
        "same as input size|different to the input size",
        "Give the loss equal shapes: loss(outputs, targets.view_as(outputs)), or outputs.squeeze(1).",
    ),
    (
        "shapes",
        "Size mismatch between tensors|inconsistent numbers of samples",
        "Inputs and labels need as many rows: train_test_split(x, y) returns x_train, x_test, y_train, y_test, in this order.",
    ),
    (
        "shapes",
        "only for scalar outputs",
        "Call backward() on a number: loss.mean().backward().",
    ),
    (
        "shapes",
        "invalid for input of size|view size is not compatible",
        "Let the shape follow the input: x.reshape(x.shape[0], -1), without a batch size or size of images that is fixed.",
    ),
    (
        "shapes",
        "must match|Expected (target )?size|equal size|out of range|out of bounds for dim|[sS]ize mismatch|be greater than "
        "actual|be broadcast",
        "Compare the sizes above with the axes that this line takes for time, samples and classes.",
    ),
    (
        "script-failed",
        "attempted relative import",
        "Run the script as a module: lsg diagnose -m PACKAGE.MODULE.",
    ),
    (
        "script-failed",
        "deepcopy protocol",
        "Neurons keep a state with a graph: reset them before the copy (snntorch: utils.reset(net); spikingjelly: "
        "functional.reset_net(net)), or keep copy.deepcopy(net.state_dict()).",
    ),
    (
        "script-failed",
        "",
        "Mend the error; what follows is what was seen before it.",
    ),
)


def explained(seen: "Seen | None") -> tuple[str, MaybeFound]:
    """The rule that names the cause of the error that ended a script, empty without one, and what was found, if the rule does not find it itself."""
    if seen is None or seen.error is None or seen.error.kind == "KeyboardInterrupt":
        return "", None
    text = str(seen.error).partition("\n")[0]
    operands = seen.operands
    rule, match, advice = next((rule, match, advice) for rule, part, advice in CRASHES if (match := re.search(part, text)))
    where = seen.lines.get("error")
    shape = re.search(rf"{IN_PLACE}.*Tensor \[([\d, ]+)\]", text)
    # Weights, and views of them, are changed by the optimiser's step, other tensors by the script.
    weights = {known.size for known in seen.parameters.values()}
    if shape and (re.search(COMPUTED, text) or math.prod(map(int, shape[1].split(","))) not in weights):
        rule = "in-place"
        called = seen.lines.get("backward") or where  # the error itself may arise in the backward pass of the user's function
        before = [
            line for line in seen.search(CHANGES_IN_PLACE) if called and line.file == called.file and line.line < called.line
        ]
        where = before[-1] if before else where
        advice = "Make a new tensor where this one is changed, as backward() needs it: u = u * (1 - o), not u *= 1 - o or u[o > 0] = 0."
    # Tensors of the size of earlier batches, in a call with another one.
    old = [one for one in operands if one.shape[:1] == (seen.batch,) != operands[-1].shape[:1]]
    if rule == "shapes" and seen.backwards and old:
        advice = f"Batches differ in size, and before had {seen.batch}: build states with x.shape[0] rows, or give the data loader drop_last=True."
        if any(one.low != one.high for one in old):  # rather than a state that begins with zeros
            rule = "state-kept"
            advice = reset_of(seen)
    if not advice:
        return rule, None
    sizes = "; ".join(map(str, [text, *operands[-2:]]))  # of the innermost call
    return rule, Found(sizes, (), "error", where, advice.format(*match.groups()))


def failed(seen: "Seen", *texts: str) -> bool:
    """Whether the script ended with an error that contains one of some texts."""
    return any(text in str(seen.error) for text in texts)


def _unreached(seen: "Seen") -> bool:
    """Whether ``backward`` reached no parameter at all."""
    gradients = {gradient for parameter in seen.parameters.values() for gradient in parameter.gradients}
    return bool(seen.leaves) or (seen.backwards > 0 and not seen.clipped and gradients == {None})


class ErrorRule(ScriptRule, measure="error", usual="", at="error"):
    """A rule on an error that ended a script, which :func:`explained` finds."""


@register("rule", "empty-optimiser")
class EmptyOptimiser(ErrorRule, source="torch.optim"):
    """The optimiser was given no parameters: the network has none registered, or its generator of parameters was already used up."""


@register("rule", "no-surrogate")
class NoSurrogate(
    ScriptRule,
    measure="spikes.requires_grad",
    usual="true",
    least="error",
    at="comparison",
    source="Neftci et al. 2019",
    advice=(
        "Add the gradient of a sigmoid: with h = torch.sigmoid(4 * (u - v_th)), the spikes are (u > v_th).float() + h - h.detach(). Or use "
        "neurons with a surrogate (lsg.LIF(), snntorch.Leaky() without surrogate_disable, spikingjelly's LIFNode())."
    ),
):
    """The spikes have no gradient: a comparison such as u > v_th is not differentiable, and no surrogate replaces its gradient."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        cut = not _unreached(seen) and (seen.error is None or failed(seen, NO_GRAPH))
        weights = [key for key, parameter in seen.parameters.items() if parameter.equal is not None]
        last = weights[-1:]  # whose potentials may be read
        passed = {layer.where for layer in seen.layers.values() if layer.du and layer.weight_id not in last}
        layers = [
            layer
            for layer in seen.layers.values()
            if layer.detached or (cut and layer.compares and not layer.du and layer.where not in passed)
        ]
        if layers:
            return Found(False, tuple(layer.name for layer in layers), where=layers[0].where)
        if any(layer.compares for layer in seen.layers.values()) or _unreached(seen):
            return None
        lacking = any(p.gradients and set(p.gradients) == {None} and not p.frozen for p in seen.parameters.values())
        compared = "comparison" in seen.lines and (lacking or failed(seen, NO_GRAPH))
        return Found(False) if compared or failed(seen, NO_DERIVATIVE) else None


@register("rule", "no-graph")
class NoGraph(
    ScriptRule,
    measure="loss.requires_grad",
    usual="true",
    least="error",
    source="torch.autograd",
    advice=(
        "Compute the loss from the network's outputs themselves: without argmax, round, item(), detach() or torch.tensor(...) between them and "
        "the loss, outside no_grad(), and with neurons that have a surrogate gradient."
    ),
):
    """The loss depends on no parameter through differentiable operations, so that backward() fails or reaches nothing."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        fails = failed(seen, NO_GRAPH)
        found = fails or _unreached(seen)
        return Found(False, where=seen.lines.get("error" if fails else "backward")) if found else None


@register("rule", "graph-twice")
class GraphTwice(
    ScriptRule,
    measure="graph",
    usual="one backward pass each",
    least="error",
    at="backward",
    source="snntorch, issue 8; spikingjelly, functional.reset_net",
):
    """The backward pass reaches the graph of an earlier step, as a state of neurons, or a loss, is carried from batch to batch; or values that have changed since."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        kept = tuple(layer.name for layer in seen.layers.values() if layer.kept)
        once = "Call backward() once for each forward pass, on the sum of its losses."
        once = f"{reset_of(seen)} {once}" if seen.steps else once
        return Found(seen.steps, kept, advice=once) if failed(seen, *TWICE) else None


@register("rule", "in-place")
class InPlace(ErrorRule, source="torch.autograd"):
    """Values that backward() needs were changed in place before it."""


@register("rule", "shapes")
class Shapes(ErrorRule):
    """The sizes of tensors do not fit: those of a layer and its input, of outputs and labels, or of a state and a batch."""


@register("rule", "types")
class Types(ErrorRule):
    """A call is given values of another dtype, device or type than it takes, such as labels that are no integers, or arguments that it does not have."""


@register("rule", "script-failed")
class ScriptFailed(ErrorRule):
    """The script ended with an error of its own."""
