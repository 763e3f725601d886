"""Command-line options derived from the fields of :class:`~lsgcli.config.run.RunConfig`."""

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, NamedTuple, Optional

from typer import Option

from lsgcli import registry
from lsgcli.config.fields import FORMER, Values, renamed
from lsgcli.config.machine import INT8
from lsgcli.config.run import FIELDS, RULES, SECTIONS, base_type
from lsgcli.system.schema import Record

# As a JSON schema says what bounds and types are.
BOUNDS = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "below": "exclusiveMaximum"}
TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


class Chosen(NamedTuple):
    """Annotation of a parameter that is a dictionary of settings: each of ``names`` is an option, and those given are in it."""

    names: Collection[str]


def with_options(command: Callable[..., None], *others: Callable[..., None]) -> Callable[..., None]:
    """The command with the signature that typer reads, and the options of ``others``, which are not called.

    A parameter that is a named tuple, such as :class:`~lsgcli.cli.common.Verbosity`, becomes one parameter for each of its fields; a
    dictionary with :class:`Chosen` becomes one for each setting.
    """
    options, arguments = _options_of(command)

    def wrapper(**given: Any) -> None:
        arguments(renamed(given))

    for other in others:
        options += _options_of(other)[0]
    names = [option.name for option in options]
    for former, name in FORMER.items():
        if name in names:
            options.append(_parameter(former, base_type(name), Option(hidden=True)))
    wrapper.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapper.__doc__ = command.__doc__
    return wrapper


def _options_of(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], Callable[[Values], Any]]:
    """The options of a command or named tuple, and what calls it with their values."""
    options = []
    values: dict[str, Callable[[Values], Any]] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = parameter.annotation
        marks = getattr(kind, "__metadata__", ())
        if hasattr(kind, "_fields"):
            inner, values[name] = _options_of(kind)
        elif marks and isinstance(marks[0], Chosen):
            settings = [setting for setting in FIELDS if setting in marks[0].names]
            inner = [_of_setting(setting) for setting in settings]
            values[name] = functools.partial(_given, settings)
        else:
            inner = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            values[name] = operator.itemgetter(name)
        options += inner
    return options, lambda given: function(**{name: value(given) for name, value in values.items()})


def _given(settings: Sequence[str], given: Values) -> Record:
    """The settings that are given."""
    return {name: given[name] for name in settings if given[name] is not None}


def _parameter(name: str, kind: type, option: Any) -> inspect.Parameter:
    """A parameter whose value is None unless it is given."""
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _of_setting(name: str) -> inspect.Parameter:
    """The parameter of a setting."""
    flags = ["-T", "--timesteps"] if name == "T" else []  # typer calls others as the setting
    option = Option(
        *flags,
        help=describe(name),
        rich_help_panel=next(title for title, names in SECTIONS.items() if name in names),
        show_default=False,
        autocompletion=lambda: list(choices_of(name)),  # of an empty list, the shell completes file names
    )
    return _parameter(name, base_type(name), option)


def choices_of(name: str) -> Sequence[str]:
    """The named values of a setting that training accepts; empty if it has none."""
    meta = FIELDS[name].metadata
    return registry.names(meta["kind"]) if meta["kind"] else [choice for choice in meta["choices"] if choice != INT8]


def describe(name: str) -> str:
    """The help of a setting: meaning, choices, default, and when it has an effect."""
    field = FIELDS[name]
    choices = choices_of(name)
    text: str = field.metadata["help"]
    if choices:
        text += f" {'Any' if field.metadata['several'] else 'One'} of: {', '.join(choices)}."
    if field.default is not None and not isinstance(field.default, bool):
        text += f" Default: {field.default}{', or a preset' if field.metadata['preset'] else ''}."
    if name in RULES:
        text += f" Only with {RULES[name].words}."
    return text


def schema_of_settings() -> Record:
    """A JSON schema of files for ``--config``: settings by name, or grouped in tables of any name."""
    properties = {name: _schema(name) for name in FIELDS}
    properties |= {former: {**properties[name], "deprecated": True} for former, name in FORMER.items()}
    table = {name: {"$ref": f"#/properties/{name}"} for name in properties}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of lsg",
        "type": "object",
        "properties": properties,
        "additionalProperties": {"type": "object", "properties": table, "additionalProperties": False},
    }


def _schema(name: str) -> Record:
    """The schema of a setting: its meaning, its type or named values, and its bounds."""
    about = FIELDS[name].metadata
    choices = choices_of(name)
    schema: Record = {"description": describe(name)}
    if choices and not about["several"]:
        earlier = about["earlier"]  # names that files of earlier versions have, of which some are numbers
        numbers = [int(value) for value in earlier if value.isdecimal()]
        schema["anyOf"] = [{"enum": [*choices, *earlier, *numbers]}]
        if about["kind"]:
            schema["anyOf"].append({"type": "string", "pattern": ":"})  # such as torchvision:SVHN
    else:
        schema["type"] = TYPES[base_type(name)]
    for key, bound in about["bounds"].items():
        schema[BOUNDS[key]] = bound
    return schema
