"""Dataclasses of settings: the description, bounds and condition of each field, and its validation."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lsgcli import registry
from lsgcli.errors import ConfigError, refuse
from lsgcli.registry import traits
from lsgcli.system.schema import LONG, Record, shown

LARGEST_SEED = (1 << 63) - 1  # accepted by torch and numpy
FLOAT32 = (1.2e-38, 3.4e38)  # range of normal float32 numbers, because settings are converted to tensors
# Former names of settings, which remain valid wherever settings are given or stored.
FORMER = {"convolution": "synapses", "checkpoint_activations": "memory"}
BEFORE = {name: former for former, name in FORMER.items()}
# Names that other libraries have for settings of neurons.
ELSEWHERE = {
    "beta": "decay",
    "tau": "decay",
    "leak": "decay",
    "v_th": "threshold",
    "v_threshold": "threshold",
    "spike_grad": "surrogate",
    "surrogate_function": "surrogate",
}
NO_VALUE = (None, "none", 0)  # of a setting that is not given, or that a run has stored by both names
EXPECTED = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}
Values = Mapping[str, Any]  # by name
Field = dataclasses.Field[Any]
BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


@dataclass(frozen=True)
class Applies:
    """A condition on complete settings under which a setting has an effect.

    Attributes:
        words: description, as a continuation of "Only with".
        to: the predicate.
    """

    words: str
    to: Callable[[Any], bool]

    def __and__(self, other: "Applies") -> "Applies":
        return Applies(f"{self.words} and {other.words}", lambda config: self.to(config) and other.to(config))


def when(name: str, value: str) -> Applies:
    """The condition that the setting ``name`` has this value."""
    return Applies(f"--{name} {value}", lambda config: getattr(config, name) == value)


def having(kind: str, attribute: str, words: str, wanted: bool = True) -> Applies:
    """The condition that ``attribute`` of the registered entry that the setting ``kind`` names is ``wanted``."""
    return Applies(words, lambda config: getattr(traits(kind, getattr(config, kind)), attribute, False) is wanted)


def setting(
    default: Any,
    help: str,
    *,
    kind: str | None = None,
    path: str | None = None,
    several: bool = False,
    choices: str = "",
    check: Callable[[Any], str | None] | None = None,
    preset: bool = False,
    applies: Applies | None = None,
    earlier: Values | None = None,
    **bounds: float,
) -> Any:
    """A field of a :class:`Settings` class.

    Args:
        default: value unless one is given.
        help: description, shown by ``--help`` and in the documentation.
        kind: kind of the registry of which a value names an entry.
        path: what a value is the path of on this machine: a ``folder`` or a ``checkpoint``.
        several: whether the value is a comma-separated list of these names, or ``none``.
        choices: the valid values, with blanks between them.
        check: function of a value that returns a description of valid values, or None if it is valid.
        preset: whether the preset of a data set, network or neuron may override the default.
        applies: condition under which the setting has an effect; None means always.
        earlier: values that settings files and commands may still have, as text, and what they mean now.
        bounds: ``at_least``, ``above``, ``at_most``, ``below``.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "kind": kind,
            "several": several,
            "choices": choices.split(),
            "check": check,
            "preset": preset,
            "path": path,
            "applies": applies,
            "earlier": earlier or {},
            "bounds": bounds,
        },
    )


def named(text: str) -> str:
    """The setting that a text names, with dashes or underscores, by its name of today or a former one."""
    name = text.strip().replace("-", "_")
    return FORMER.get(name, name)


def renamed(values: Values) -> Record:
    """Settings by their names of today, of values by these or by former names.

    Raises:
        ConfigError: a setting has values by both names.
    """
    found: Record = {}
    for given, value in values.items():
        name = FORMER.get(given, given)
        if found.get(name) in NO_VALUE:
            found[name] = value
        elif value not in NO_VALUE:
            raise ConfigError(f"{name}: found {BEFORE[name]} too, which is its former name, expected one of them")
    return found


def formerly(values: Values) -> Record:
    """Settings by the first name of each, which names directories that exist."""
    return {BEFORE.get(name, name): value for name, value in values.items()}


def listed(text: str) -> list[str]:
    """The names in a comma-separated value, such as ``flip,roll``; an empty list for ``none``."""
    return [] if text == "none" else text.split(",")


Section = TypeVar("Section", bound="Settings")


class Settings:
    """Base of dataclasses of settings.

    Raises:
        ConfigError: with one line for each invalid value, which starts with the name of the setting.
    """

    def __post_init__(self) -> None:
        fields = fields_of(type(self))
        values = {name: getattr(self, name) for name in fields}
        refuse(check(values, fields))
        for name, value in values.items():
            value = current(fields[name], value)
            if type(value) is int and type_of(fields[name]) is float:
                value = float(value)
            object.__setattr__(self, name, value)

    def part(self, section: type[Section]) -> Section:
        """The settings of one section, of which this class is a subclass."""
        return section(**{name: getattr(self, name) for name in fields_of(section)})


def fields_of(kind: type) -> dict[str, Field]:
    """The fields of a dataclass that are settings, by name."""
    return {field.name: field for field in dataclasses.fields(kind) if field.metadata}


def type_of(field: Field) -> type:
    """The type of a setting without None: int, float, str or bool."""
    return getattr(field.type, "__args__", (field.type,))[0]  # type: ignore[return-value]


def current(field: Field, value: Any) -> Any:
    """A value of a setting, or what an earlier one means now."""
    return field.metadata["earlier"].get(str(value), value)


def check(values: Values, fields: Mapping[str, Field]) -> list[str]:
    """One line for each invalid value, ``name: found ..., expected ...``; empty if all are valid. None means not given."""
    problems = []
    for name, value in values.items():
        if name not in fields:
            problems.append(unknown(str(name)[:LONG], fields))
        elif value is not None and (problem := _problem(fields[name], current(fields[name], value))):
            problems.append(f"{name}: {problem}")
    return problems


def unknown(name: str, fields: Mapping[str, Field]) -> str:
    """A message that no setting is called ``name``, with the one that it is in other libraries, or similar names."""
    wanted = ELSEWHERE.get(name, "")
    if wanted in fields:
        return f"unknown setting {name!r}: did you mean {wanted}? {fields[wanted].metadata['help']}"
    return registry.unknown("setting", name, list(fields))


def _problem(field: Field, value: Any) -> str | None:
    about = field.metadata
    kind = about["kind"]
    expected = _expected(about, type_of(field), value)
    if kind and not expected:
        names = registry.names(kind)
        given = listed(value)
        if not about["several"]:
            return None if registry.known(kind, value) else registry.unknown(kind, value[:LONG], names)
        if not set(given) <= set(names):
            expected = f"'none' or a comma-separated list of {', '.join(names)}"
        elif len(set(given)) < len(given):
            expected = "each name once"
    return expected and f"found {shown(value)}, expected {expected}"


def _expected(about: Values, wanted: type, value: Any) -> str | None:
    """What a setting expects, but for names of things; None if the value is valid."""
    not_finite = type(value) is float and not math.isfinite(value)
    if type(value) not in ((int, float) if wanted is float else (wanted,)) or value == "" or not_finite:
        return EXPECTED[wanted]
    if about["choices"] and value not in about["choices"]:
        return " or ".join(about["choices"])
    if about["check"] and (expected := about["check"](value)):
        return str(expected)
    if wanted is float and value and not FLOAT32[0] <= abs(value) <= FLOAT32[1]:
        return "a number that float32 can represent"
    bounds = about["bounds"]
    if all(BOUNDS[key](value, bound) for key, bound in bounds.items()):
        return None
    limits = {key: bound if isinstance(bound, int) else format(bound, "g") for key, bound in bounds.items()}
    return " and ".join(f"{key.replace('_', ' ')} {limit}" for key, limit in limits.items())


def all_at_once(*attempts: Callable[[], Any]) -> list[Any]:
    """The results of all attempts.

    Raises:
        ConfigError: with the messages of all attempts that raise one; messages with the same hint are grouped.
    """
    results = []
    problems: dict[tuple[str | None, str | None], list[str]] = {}
    for attempt in attempts:
        try:
            results.append(attempt())
        except ConfigError as error:
            problems.setdefault((error.hint, error.in_python), []).append(error.message)
    errors = [ConfigError("\n".join(lines), hint, in_python=python) for (hint, python), lines in problems.items()]
    if errors:
        *before, last = errors
        shown = [*(error.on_command_line for error in before), last.message]
        raise ConfigError("\n".join(shown), last.hint, in_python=last.in_python)
    return results
