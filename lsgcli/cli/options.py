"""Command-line options derived from the fields of :class:`~lsgcli.config.run.RunConfig`."""

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Optional, TypeVar

import typer

from lsgcli import registry
from lsgcli.cli import completion
from lsgcli.config.machine import INT8
from lsgcli.config.run import FIELDS, RULES, SECTIONS, base_type, option_name

Command = TypeVar("Command", bound=Callable[..., None])


def with_settings(names: Collection[str] = FIELDS) -> Callable[[Command], Command]:
    """Decorate a command that takes the settings ``names`` as options; it receives those given as the dictionary ``settings``."""

    def decorate(command: Command) -> Command:
        command.settings = [name for name in FIELDS if name in names]  # type: ignore[attr-defined]
        return command

    return decorate


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting selected by :func:`with_settings`."""
    names: list[str] = getattr(command, "settings", [])
    if not names:
        return command
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        settings = {name: arguments.pop(name) for name in names}
        command(settings={name: value for name, value in settings.items() if value is not None}, **arguments)

    parameters = [*own, *(_parameter(name) for name in names)]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameter(name: str) -> inspect.Parameter:
    kind, panel = base_type(name), next(title for title, names in SECTIONS.items() if name in names)
    flags = [option_name(name)]
    if name == "T":
        flags = ["-T", "--timesteps"]
    elif kind is bool:
        flags = [f"{flags[0]}/--no-{flags[0].removeprefix('--')}"]
    option = typer.Option(
        *flags, help=describe(name), rich_help_panel=panel, show_default=False, autocompletion=_completer(name)
    )
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
        text += f" Default: {field.default}{', or the preset of the data set' if field.metadata['preset'] else ''}."
    if name in RULES:
        text += f" Only with {RULES[name].words}."
    return text
