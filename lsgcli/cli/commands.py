"""Groups of commands that are imported when they are needed, and the layout of help pages.

A help page takes a few milliseconds beyond typer's own import: a command's module is imported only when that command is called, its
options are built only when they are parsed or shown, and the page is laid out by click's plain formatter.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import typer
import typer.core
import typer.main

from lsgcli.cli.guard import guarded
from lsgcli.cli.options import with_options


def load(place: str) -> Any:
    """The function or :class:`typer.Typer` at ``module:name``, a module of ``lsgcli.cli``."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"lsgcli.cli.{module}"), name)


class Commands(Mapping[str, Any]):
    """Name -> command of click, built from ``table`` (name -> ``module:name``) when it is asked for."""

    def __init__(self, table: Mapping[str, str]):
        self.table = table

    def __getitem__(self, name: str) -> Any:
        thing = load(self.table[name])
        if isinstance(thing, typer.Typer):
            return typer.main.get_group(thing)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, cls=Command)(guarded(with_options(thing)))
        return typer.main.get_command(app)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def summary(self, name: str) -> str:
        """What a command does, without building its options."""
        thing = load(self.table[name])
        text = thing.info.help if isinstance(thing, typer.Typer) else inspect.getdoc(thing)
        return str(text).partition("\n\n")[0]


class Page:
    """Mixin of commands: a help page with a section for each panel of options, in which no name or text is cut off."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        # typer imports pydantic to convert the None of an absent --help, but leaves a bool as it is.
        for parameter in parameters:
            if not parameter.expose_value and parameter.default is None:
                parameter.default = False
        return parameters

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or f"{parameter.param_type_name}s".capitalize()
                sections.setdefault(panel, []).append(record)
        for title, rows in sections.items():
            write_section(formatter, title, rows)


def write_section(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    """Write a heading and rows of (name, text); styles are removed where the page does not go to a terminal."""
    with formatter.section(typer.style(title, bold=True)):
        formatter.write_dl([(typer.style(name, fg="cyan"), text) for name, text in rows])


class Command(Page, typer.core.TyperCommand):
    """A command."""


class Group(Page, typer.core.TyperGroup):
    """A group of the commands in ``table``; see :func:`group`."""

    table: Mapping[str, str]

    def __init__(self, **settings: Any):
        super().__init__(**{**settings, "commands": Commands(self.table)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        commands = Commands(self.table)
        write_section(formatter, "Commands", [(name, commands.summary(name)) for name in commands])


def group(table: Mapping[str, str]) -> type[Group]:
    """The class of a group with these commands, for ``typer.Typer(cls=...)``."""
    return type("Group", (Group,), {"table": table})
