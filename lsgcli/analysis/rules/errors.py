"""Rules on errors that end a watched script, and on spikes without a gradient."""

from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import RESET, Evidence, Found, Remedy, ScriptRule
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen


def _failed(seen: "Seen", kind: type[BaseException], text: str) -> bool:
    return isinstance(seen.error, kind) and text in str(seen.error)


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
        layers = [layer for layer in seen.layers.values() if layer.detached]
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
        kept = [layer for layer in seen.layers.values() if layer.kept]
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
