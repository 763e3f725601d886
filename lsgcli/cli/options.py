"""Command-line options derived from the fields of :class:`~lsgcli.config.run.RunConfig`."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Optional

import typer

from lsgcli import registry
from lsgcli.cli import completion
from lsgcli.config.machine import INT8
from lsgcli.config.run import FIELDS, RULES, SECTIONS, base_type, option_name


class Chosen(NamedTuple):
    """Annotation of a parameter that is a dictionary of settings: each of ``names`` is an option, and those given are in it."""

    names: Collection[str]
    auto: bool = False  # whether :data:`AUTO` may be ``auto``


AUTO = {
    "batch_size": "auto: the largest power of two for which a step fits in the memory of the GPU, or in half of the available RAM, as measured; "
    "recorded as a number."
}


def with_options(command: Callable[..., None], *flags: inspect.Parameter) -> Callable[..., None]:
    """The command with the signature that typer reads, and further options ``flags`` that it does not receive.

    A parameter that is a named tuple, such as :class:`~lsgcli.cli.common.Verbosity`, becomes one parameter for each of its fields; a
    dictionary with :class:`Chosen` becomes one for each setting.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        command(**{parameter.name: _value(parameter, arguments) for parameter in own})

    options = [*(option for parameter in own for option in _options(parameter)), *flags]
    wrapper.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {option.name: option.annotation for option in options}
    return wrapper


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The parameters that typer reads for a parameter of a command, or for a field."""
    if fields := _fields(parameter):
        for field in fields:
            yield from _options(field)
    elif names := _settings(parameter):
        auto = AUTO if any(isinstance(mark, Chosen) and mark.auto for mark in parameter.annotation.__metadata__) else {}
        yield from (_of_setting(name, auto.get(name, "")) for name in names)
    else:
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _value(parameter: inspect.Parameter, arguments: Mapping[str, Any]) -> Any:
    """The value of a parameter of a command, or of a field, from the arguments that typer gives."""
    if fields := _fields(parameter):
        return parameter.annotation(**{field.name: _value(field, arguments) for field in fields})
    if names := _settings(parameter):
        return {name: arguments[name] for name in names if arguments[name] is not None}
    return arguments[parameter.name]


def _fields(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    kind = parameter.annotation
    return list(inspect.signature(kind).parameters.values()) if hasattr(kind, "_fields") else []


def _settings(parameter: inspect.Parameter) -> list[str]:
    marks = getattr(parameter.annotation, "__metadata__", ())
    return [name for mark in marks if isinstance(mark, Chosen) for name in FIELDS if name in mark.names]


def _number_or_auto(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a valid integer nor auto.") from None


def _of_setting(name: str, auto: str = "") -> inspect.Parameter:
    """The parameter of a setting; ``auto`` describes what the value ``auto`` selects, if it is allowed."""
    kind, panel = base_type(name), next(title for title, names in SECTIONS.items() if name in names)
    flags = [option_name(name)]
    if name == "T":
        flags = ["-T", "--timesteps"]
    elif kind is bool:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}"]
    more: dict[str, Any] = {"parser": _number_or_auto, "metavar": "INTEGER|auto"} if auto else {}
    text = f"{describe(name)} {auto}".rstrip()
    option = typer.Option(*flags, help=text, rich_help_panel=panel, show_default=False, autocompletion=_completer(name), **more)
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _completer(name: str) -> completion.Completer:
    if kind := FIELDS[name].metadata["kind"]:
        return (completion.several_of if FIELDS[name].metadata["several"] else completion.names_of)(kind)
    return completion.checkpoints if FIELDS[name].metadata["path"] == "checkpoint" else completion.of(choices_of(name))


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
