"""Which modules are layers of neurons, and what is known of the thresholds and states of those of other libraries."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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


def is_library_neuron(module: nn.Module | None) -> bool:
    """Whether a module is a layer of neurons of a known library."""
    return bool(library_of(module))


def is_own(module: nn.Module) -> bool:
    """Whether a module is lsg's LIF."""
    return any(kind.__module__ == "lsgcli.neurons.lif" and kind.__name__ == "LIF" for kind in type(module).__mro__)


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


def states(module: nn.Module, arguments: tuple[Any, ...]) -> Iterator[Tensor]:
    """The floating tensors that a module is given beside its input, or if there are none those that it keeps, other than parameters."""
    given = list(_tensors(arguments[1:]))
    if given:
        yield from given
        return
    yield from _tensors(tuple(module._buffers.values()))
    for name, value in vars(module).items():
        if name == "reset":  # of snntorch, from the potential: no state of its own
            continue
        if name in ("_memories", "_StatefulLayer__states") or isinstance(value, Tensor):
            yield from _tensors(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and not isinstance(value, nn.Parameter):
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


@torch.no_grad()
def holds_a_state(module: nn.Module, arguments: tuple[Any, ...], shape: torch.Size) -> bool:
    """Whether one of its states has a shape, with its values not all equal: it is left from an earlier batch."""
    return any(
        state.dim() == len(shape) and state.shape[1:] == shape[1:] and bool((state != state.reshape(-1)[0]).any())
        for state in states(module, arguments)
    )
