"""Command-line options derived from the fields of :class:`~lsgcli.config.run.RunConfig`."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Optional

import typer

from lsgcli import registry
from lsgcli.config.machine import INT8
from lsgcli.config.run import FIELDS, RULES, SECTIONS, base_type, option_name

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
    own = [(name, *_read(parameter)) for name, parameter in inspect.signature(command, eval_str=True).parameters.items()]

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        command(**{name: value(arguments) for name, _, value in own})

    every = [*(option for _, options, _ in own for option in options), *flags]
    wrapper.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {option.name: option.annotation for option in every}
    return wrapper


Value = Callable[[Mapping[str, Any]], Any]


def _read(parameter: inspect.Parameter) -> tuple[list[inspect.Parameter], Value]:
    """The parameters that typer reads for a parameter or field, and the function that makes its value from their arguments."""
    kind = parameter.annotation
    if hasattr(kind, "_fields"):
        fields = [(name, *_read(field)) for name, field in inspect.signature(kind).parameters.items()]
        options = [option for _, own, _ in fields for option in own]
        return options, lambda arguments: kind(**{name: value(arguments) for name, _, value in fields})
    for mark in getattr(kind, "__metadata__", ()):
        if isinstance(mark, Chosen):
            return _settings([name for name in FIELDS if name in mark.names])
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)], lambda arguments: arguments[parameter.name]


def _settings(names: Sequence[str]) -> tuple[list[inspect.Parameter], Value]:
    """As :func:`_read`, for a dictionary of settings."""
    options = [_of_setting(name) for name in names]
    return options, lambda arguments: {name: arguments[name] for name in names if arguments[name] is not None}


def _of_setting(name: str) -> inspect.Parameter:
    """The parameter of a setting."""
    kind, panel = base_type(name), next(title for title, names in SECTIONS.items() if name in names)
    flags = [option_name(name)]
    if name == "T":
        flags = ["-T", "--timesteps"]
    elif kind is bool:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}"]
    option = typer.Option(
        *flags,
        help=describe(name),
        rich_help_panel=panel,
        show_default=False,
        autocompletion=lambda: list(choices_of(name)),  # of an empty list, the shell completes file names
    )
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def choices_of(name: str) -> Sequence[str]:
    """The named values of a setting that training accepts; empty if it has none."""
    meta = FIELDS[name].metadata
    return registry.names(meta["kind"]) if meta["kind"] else [choice for choice in meta["choices"] or () if choice != INT8]


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


def schema_of_settings() -> dict[str, Any]:
    """A JSON schema of files for ``--config``: settings by name, or grouped in tables of any name."""
    properties = {}
    for name, field in FIELDS.items():
        about = field.metadata
        choices = choices_of(name)
        stated: dict[str, Any] = {"type": TYPES[base_type(name)]}
        if choices and not about["several"]:
            others = [*about["earlier"], *map(int, filter(str.isdecimal, about["earlier"]))]
            stated = {"anyOf": [{"enum": [*choices, *others]}]}
            if about["kind"]:
                stated["anyOf"].append({"type": "string", "pattern": ":"})  # such as torchvision:SVHN
        bounds = {BOUNDS[key]: bound for key, bound in about["bounds"].items()}
        properties[name] = {"description": describe(name), **stated, **bounds}
    table = {name: {"$ref": f"#/properties/{name}"} for name in properties}
    grouped = {"type": "object", "properties": table, "additionalProperties": False}
    draft = "http://json-schema.org/draft-07/schema#"
    return {
        "$schema": draft,
        "title": "Settings of lsg",
        "type": "object",
        "properties": properties,
        "additionalProperties": grouped,
    }
