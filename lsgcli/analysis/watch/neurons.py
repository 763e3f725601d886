"""Which modules are layers of neurons, and what is known of the thresholds and states of those of other libraries."""

from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.watch.tensors import tensors

THRESHOLDS = ("v_threshold", "threshold", "v_th", "spike_threshold", "theta", "vth", "thresh")  # attributes of modules
KINDS = {  # base classes of neurons, by the package that defines them
    "snntorch": {"SpikingNeuron"},
    "spikingjelly": {"BaseNode", "SimpleBaseNode"},
    "norse": {"SNNCell", "SNNRecurrentCell", "SNN", "SNNRecurrent"},
    "sinabs": {"StatefulLayer"},
    "lsgcli": {"LIF"},
}


def library_of(module: nn.Module | None) -> str:
    """The package of a layer of neurons of a known library; empty for other modules."""
    packages = [(kind, kind.__module__.partition(".")[0]) for kind in type(module).__mro__]
    return next((package for kind, package in packages if kind.__name__ in KINDS.get(package, ())), "")


def threshold_of(module: nn.Module) -> float:
    """v_th of a module of neurons, by its usual names; 1 if it has none of them. Of a threshold for each neuron, the mean."""
    for holder in (module, getattr(module, "p", None)):
        for name in THRESHOLDS:
            value = getattr(holder, name, None)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                return float(value)
            if isinstance(value, Tensor) and value.numel() and (mean := float(value.detach().float().mean())) > 0:
                return mean
    return 1.0


def unreset_decay(module: nn.Module | None) -> float:
    """The decay of neurons of snntorch that are not reset when they fire; 0 of others."""
    if getattr(module, "reset_mechanism", None) != "none":
        return 0.0
    beta = getattr(module, "beta", 0.0)
    return float(beta.detach().mean()) if isinstance(beta, Tensor) else float(beta)


def states(module: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """The floating tensors that a module is given beside its input, or if there are none those that it keeps, other than parameters."""
    if given := _floating(arguments[1:]):
        return given
    # Of snntorch, "reset" follows from the potential, and is no state of its own.
    own = [value for name, value in vars(module).items() if isinstance(value, Tensor) and name != "reset"]
    holders = [vars(module).get(name) for name in ("_memories", "_StatefulLayer__states")]  # of spikingjelly and sinabs
    return _floating([*module._buffers.values(), *own, *holders])


def _floating(value: Any) -> list[Tensor]:
    return [part for part in tensors(value) if part.is_floating_point() and not isinstance(part, nn.Parameter)]


@torch.no_grad()
def holds_a_state(module: nn.Module, arguments: tuple[Any, ...], shape: torch.Size) -> bool:
    """Whether one of its states has a shape, with its values not all equal: it is left from an earlier batch."""
    return any(
        state.dim() == len(shape) and state.shape[1:] == shape[1:] and bool((state != state.reshape(-1)[0]).any())
        for state in states(module, arguments)
    )
