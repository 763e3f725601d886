"""Command-line options derived from the fields of :class:`~lsgcli.config.run.RunConfig`."""

import functools
import inspect
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


def with_options(command: Callable[..., None], *flags: inspect.Parameter) -> Callable[..., None]:
    """The command with the signature that typer reads, and further options ``flags`` that it does not receive.

    A parameter that is a named tuple, such as :class:`~lsgcli.cli.common.Verbosity`, becomes one parameter for each of its fields; a
    dictionary with :class:`Chosen` becomes one for each setting.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        given = renamed(arguments)
        command(**{parameter.name: _value(parameter, given) for parameter in parameters})

    options = []
    for parameter in parameters:
        options += _options(parameter)
    options += flags
    names = [option.name for option in options]
    for former, name in FORMER.items():
        if name in names:
            hidden = Annotated[Optional[base_type(name)], Option(hidden=True)]  # type: ignore[valid-type]  # noqa: UP045
            options.append(inspect.Parameter(former, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hidden))
    wrapper.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {option.name: option.annotation for option in options}
    return wrapper


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The parameters that typer reads in place of a parameter or field."""
    options = []
    if fields := _fields(parameter):
        for field in fields:
            options += _options(field)
    elif names := _settings(parameter):
        for name in names:
            options.append(_of_setting(name))
    else:
        options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    return options


def _value(parameter: inspect.Parameter, arguments: Values) -> Any:
    """The value of a parameter or field, from the arguments for its options."""
    if fields := _fields(parameter):
        return parameter.annotation(*[_value(field, arguments) for field in fields])
    if names := _settings(parameter):
        return {name: arguments[name] for name in names if arguments[name] is not None}
    return arguments[parameter.name]


def _fields(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The fields of a parameter that is a named tuple, as parameters; none of any other."""
    kind = parameter.annotation
    return list(inspect.signature(kind).parameters.values()) if hasattr(kind, "_fields") else []


def _settings(parameter: inspect.Parameter) -> list[str]:
    """The settings of a parameter that is a dictionary of them; none of any other."""
    for mark in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(mark, Chosen):
            return [name for name in FIELDS if name in mark.names]
    return []


def _of_setting(name: str) -> inspect.Parameter:
    """The parameter of a setting."""
    kind = base_type(name)
    flags = ["-T", "--timesteps"] if name == "T" else []  # typer calls others as the setting
    option = Option(
        *flags,
        help=describe(name),
        rich_help_panel=next(title for title, names in SECTIONS.items() if name in names),
        show_default=False,
        autocompletion=lambda: list(choices_of(name)),  # of an empty list, the shell completes file names
    )
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


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
