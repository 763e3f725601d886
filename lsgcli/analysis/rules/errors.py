"""Rules on errors that end a watched script, and on spikes without a gradient."""

from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import Found, MaybeFound, ScriptRule, reset_of
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

EMPTY = "empty parameter list"
NO_GRAPH, NO_DERIVATIVE = "does not require grad", "derivative for"
ADVICE = {  # by a part of the error
    "attempted relative import": "Run the script as a module: lsg diagnose -m PACKAGE.MODULE.",
}
OUTSIDE, UNEQUAL = "out of bounds", "to match target batch_size"  # labels
IN_PLACE = "modified by an inplace operation"
TWICE = "backward through the graph a second time", IN_PLACE


def failed(seen: "Seen", *texts: str) -> bool:
    """Whether the script ended with an error that contains one of some texts."""
    return any(text in str(seen.error) for text in texts)


def _unreached(seen: "Seen") -> bool:
    """Whether ``backward`` reached no parameter at all."""
    gradients = [gradient for parameter in seen.parameters.values() for gradient in parameter.gradients]
    return bool(seen.leaves) or (seen.backwards > 0 and not seen.clipped and bool(gradients) and set(gradients) == {None})


@register("rule", "empty-optimiser")
class EmptyOptimiser(
    ScriptRule,
    measure="parameters",
    usual="those of the network",
    least="error",
    at="error",
    source="torch.optim",
    advice="Give the optimiser net.parameters(), of a network whose layers are attributes of an nn.Module or in an nn.ModuleList, not in a plain list.",
):
    """The optimiser was given no parameters: the network has none registered, or its generator of parameters was already used up."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        return Found(0) if failed(seen, EMPTY) else None


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
        "neurons with a surrogate (lsg.LIF(), snntorch.Leaky(), spikingjelly's LIFNode())."
    ),
):
    """The spikes have no gradient: a comparison such as u > v_th is not differentiable, and no surrogate replaces its gradient."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        cut = not _unreached(seen) and (seen.error is None or failed(seen, NO_GRAPH))
        weights = [key for key, parameter in seen.parameters.items() if parameter.equal is not None]
        last = weights[-1:]  # whose potentials may be read
        passed = {layer.where for layer in seen.layers.values() if layer.du and id(layer.weight) not in last}
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
        once = f"{reset_of(seen)} Sum the losses of timesteps, and call backward() once a batch."
        if failed(seen, IN_PLACE):
            once = f"Change no potentials, spikes or weights in place before backward(): u = u * (1 - o), not u *= 1 - o or u[fires] = 0. {once}"
        return Found(seen.steps, kept, advice=once) if failed(seen, *TWICE) else None


@register("rule", "script-failed")
class ScriptFailed(
    ScriptRule,
    measure="error",
    usual="none",
    least="error",
    at="error",
    advice="Mend the error; what follows is what was seen before it.",
):
    """The script ended with an error of its own."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        error = seen.error
        if (
            error is None
            or isinstance(error, KeyboardInterrupt)
            or failed(seen, EMPTY, NO_GRAPH, NO_DERIVATIVE, OUTSIDE, UNEQUAL, *TWICE)
        ):
            return None
        text, _, _ = str(error).partition("\n")
        advice = next((advice for part, advice in ADVICE.items() if part in text), "")
        return Found(f"{type(error).__name__}: {text}", advice=advice)
