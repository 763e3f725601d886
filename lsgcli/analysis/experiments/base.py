"""What a change to a training is: the base class of the interventions in this folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.modules import own_parameters, walk
from lsgcli.analysis.watch.seen import Scores, Seen

Values = dict[str, Any]  # of JSON types, for another process


class Intervention(ABC):
    """One change to a training, made while it runs. The class's documentation says what is changed, as a phrase.

    Attributes:
        rules: names of the rules whose findings it confirms; it stands for the first.
        general: whether it may help whatever the fault is, so that it is tried after the others.
        remedy: what to change in the script, in words.
        at: what stands at the line of the script that it concerns, as in ``Seen.lines``.
        scores: accuracies of the steps, where the script's own outputs say nothing.
    """

    rules: ClassVar[tuple[str, ...]] = ()
    general: ClassVar[bool] = False
    remedy: ClassVar[str] = ""
    at: ClassVar[str] = ""
    scores: Scores

    def __init_subclass__(cls, **attributes: Any):
        for name, given in attributes.items():
            setattr(cls, name, given)

    def __init__(self) -> None:
        self.scores = []

    @abstractmethod
    def is_possible(self, seen: Seen) -> bool:
        """Whether it would change a training that was seen."""

    def names(self, seen: Seen) -> tuple[str, ...]:
        """The rules, that for which it stands in a training that was seen first."""
        return self.rules

    def values(self, seen: Seen) -> Values:
        """What the change needs to know of that training."""
        return {}

    @abstractmethod
    def begin(self, guard: Guard, values: Values) -> None:
        """Make the change, until the guard is closed."""


class OfModules(Intervention):
    """A change to what modules are given, or to what they return."""

    def begin(self, guard: Guard, values: Values) -> None:
        self.known = values
        self.depth = 0
        original = nn.Module._call_impl  # type: ignore[attr-defined]

        def _call_impl(module: nn.Module, *arguments: Any, **options: Any) -> Any:
            if torch.compiler.is_compiling() or isinstance(module, torch.jit.ScriptModule | nn.modules.loss._Loss):
                return original(module, *arguments, **options)
            arguments = self.given(module, arguments)
            self.depth += 1
            try:
                output = original(module, *arguments, **options)
            finally:
                self.depth -= 1
            return self.returned(module, arguments, output)

        guard.replace(nn.Module, "_call_impl", original, _call_impl)

    def is_network(self, module: nn.Module) -> bool:
        """Whether a module with parameters is called by no other module."""
        return self.depth == 0 and any(own_parameters(part) for _, part in walk(module))

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a module runs: its arguments, changed."""
        return arguments

    def returned(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        """After a module has run: its output, changed."""
        return output


def with_first(values: Any, new: Tensor) -> Any:
    """A tensor, or the first entry of a tuple, replaced."""
    return (new, *values[1:]) if isinstance(values, tuple) else new


def replace_calls(guard: Guard, owner: Any, names: Iterable[str], changed: Callable[..., Any]) -> None:
    """Let ``changed`` be called with the original function and its arguments, instead of functions of a module or class."""
    for name in names:
        stored = vars(owner).get(name)
        original = stored.__func__ if isinstance(stored, classmethod) else getattr(owner, name)

        def patched(*arguments: Any, _original: Callable[..., Any] = original, **options: Any) -> Any:
            return changed(_original, *arguments, **options)

        guard.replace(owner, name, original, patched)
