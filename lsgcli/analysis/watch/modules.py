"""Read what modules and tensors store, without running code of the script.

Open this file to read one thing more of a module. Properties, ``__getattr__``, parametrizations, overridden methods and subclasses of tensors are code
of the script: nothing here calls them.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

DEEPEST = 5  # containers inside of containers in which tensors are looked for
THRESHOLDS = ("v_threshold", "threshold", "v_th", "spike_threshold", "theta", "vth", "thresh")  # attributes of modules
KINDS = {  # base classes of neurons, by the package that defines them
    "snntorch": {"SpikingNeuron"},
    "spikingjelly": {"BaseNode", "SimpleBaseNode"},
    "norse": {"SNNCell", "SNNRecurrentCell", "SNN", "SNNRecurrent"},
    "sinabs": {"StatefulLayer"},
    "lsgcli": {"LIF"},
}


def is_tensor(x: Any) -> bool:
    """Whether something is a tensor or parameter of torch, rather than of a subclass, which may be code of the script."""
    return type(x) in (Tensor, nn.Parameter)


def is_plain(x: Any) -> bool:
    """Whether something is a tensor whose values can be read: of torch, dense and real."""
    return is_tensor(x) and x.layout is torch.strided and not (x.is_meta or x.is_nested or x.is_quantized or x.is_complex())


def tensors(value: Any, wanted: Callable[[Any], bool] = is_plain, depth: int = DEEPEST) -> Iterator[Tensor]:
    """A tensor, or the tensors in tuples, lists and dictionaries."""
    kind = type(value)
    parts: Any = ()
    if wanted(value):
        yield value
    elif issubclass(kind, tuple):
        parts = tuple.__iter__(value)
    elif issubclass(kind, list):
        parts = list.__iter__(value)
    elif issubclass(kind, dict):
        parts = dict.values(value)
    if depth:
        for part in parts:
            yield from tensors(part, wanted, depth - 1)


def first_tensor(value: Any) -> Tensor | None:
    """The first of the :func:`tensors`; None if there is none."""
    return next(tensors(value), None)


class ByIdentity:
    """Values by object, until the object is deleted: neither ``__hash__`` nor ``__eq__`` of it is called."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def __contains__(self, key: object) -> bool:
        return id(key) in self._values and self._values[id(key)][0]() is key

    def __setitem__(self, key: object, value: Any) -> None:
        self._values[id(key)] = weakref.ref(key), value

    def get(self, key: object) -> Any:
        """The value of an object; None without one."""
        return self._values[id(key)][1] if key is not None and key in self else None

    def setdefault(self, key: object, value: Any) -> Any:
        """The value of an object, which is set if it has none."""
        if key not in self:
            self[key] = value
        return self.get(key)


def attributes(module: Any) -> dict[str, Any]:
    """What an object stores by name; empty if it stores nothing so."""
    try:
        return object.__getattribute__(module, "__dict__")  # type: ignore[no-any-return]
    except AttributeError:
        return {}


def stored(module: Any, name: str, default: Any = None) -> Any:
    """An attribute, buffer or parameter that a module stores, or a constant of its class."""
    own = attributes(module)
    places = [own, own.get("_buffers") or {}, own.get("_parameters") or {}, *map(vars, type(module).__mro__)]
    value = next((place[name] for place in places if name in place), default)
    return default if hasattr(type(value), "__get__") else value


def number(value: Any, default: float = 0.0) -> float:
    """A number, or the mean of a tensor; the default for anything else."""
    if is_plain(value) and value.numel():
        return float(value.detach().double().mean())
    return float(value) if type(value) in (int, float) else default


def walk(module: nn.Module, name: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, nn.Module]]:
    """A module and those inside of it, by qualified name; modules in several places appear in each."""
    yield name, module
    for own, child in (attributes(module).get("_modules") or {}).items():
        if isinstance(child, nn.Module) and id(child) not in above:
            yield from walk(child, f"{name}.{own}".lstrip("."), (*above, id(module)))


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a module itself that have values."""
    return {name: value for name, value in (attributes(module).get("_parameters") or {}).items() if is_plain(value)}


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module and of those inside of it, each once."""
    found = {id(value): value for _, part in walk(module) for value in own_parameters(part).values()}
    return list(found.values())


def weight_of(module: nn.Module) -> nn.Parameter | None:
    """The matrix of a linear layer or convolution, or what it is parametrized by."""
    own = own_parameters(module)
    if "weight" not in own:
        children = attributes(module).get("_modules") or {}
        own = own_parameters((attributes(children.get("parametrizations")).get("_modules") or {}).get("weight")) or own  # type: ignore[arg-type]
    names = ("weight", "original", "original1", "weight_orig", "weight_v")
    return next((own[name] for name in names if name in own and own[name].dim() > 1), None)


def library_of(module: nn.Module | None) -> str:
    """The package of a layer of neurons of a known library; empty for other modules."""
    packages = [(kind, kind.__module__.partition(".")[0]) for kind in type(module).__mro__]
    return next((package for kind, package in packages if kind.__name__ in KINDS.get(package, ())), "")


def threshold_of(module: nn.Module | None) -> float:
    """v_th of a module of neurons, by its usual names; 1 if it stores none of them. Of a threshold for each neuron, the mean."""
    parameters = stored(module, "p")  # of norse, a named tuple or a dataclass
    named = attributes(parameters)
    if issubclass(type(parameters), tuple):
        named = dict(zip(getattr(type(parameters), "_fields", ()), tuple.__iter__(parameters), strict=False))
    values = [*(stored(module, name) for name in THRESHOLDS), *(named.get(name) for name in THRESHOLDS)]
    return next((v_th for v_th in map(number, values) if v_th > 0), 1.0)


def unreset_decay(module: nn.Module | None) -> float:
    """The decay of neurons of snntorch that are not reset when they fire; 0 of others."""
    return (
        number(stored(module, "beta"))
        if stored(module, "reset_mechanism", stored(module, "_reset_mechanism")) == "none"
        else 0.0
    )


def states(module: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """The floating tensors that a module is given beside its input, or if there are none those that it keeps, other than parameters."""
    if given := _floating(arguments[1:]):
        return given
    # Of snntorch, "reset" follows from the potential, and is no state of its own.
    own = [value for name, value in attributes(module).items() if is_plain(value) and name != "reset"]
    holders = [attributes(module).get(name) for name in ("_memories", "_StatefulLayer__states")]  # of spikingjelly and sinabs
    return _floating([*(attributes(module).get("_buffers") or {}).values(), *own, *holders])


def _floating(value: Any) -> list[Tensor]:
    return [part for part in tensors(value) if part.is_floating_point() and not isinstance(part, nn.Parameter)]


def holds_a_state(module: nn.Module, arguments: tuple[Any, ...], shape: torch.Size) -> bool:
    """Whether one of its states has a shape, with its values not all equal: it is left from an earlier batch."""
    return any(
        state.dim() == len(shape) and state.shape[1:] == shape[1:] and bool((state != state.reshape(-1)[0]).any())
        for state in states(module, arguments)
    )
