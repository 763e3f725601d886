"""Command groups with lazy imports, and the layout of help pages.

To keep help pages fast, the module of a command is imported only when the command is called, its options are built only when they are
parsed or shown, and pages are laid out by click's plain formatter.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import typer
import typer.core
import typer.main

from lsgcli.cli.guard import ending
from lsgcli.cli.options import with_options

# Values of absent flags. typer would convert None to bool with pydantic, whose import takes longer than printing a page.
CONTEXT = {"default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)}


def load(path: str) -> Any:
    """The function or :class:`typer.Typer` at ``module:name``, a module of ``lsgcli.cli``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"lsgcli.cli.{module}"), name)


def summary(path: str) -> str:
    """First paragraph of a command's help, without building its options."""
    target = load(path)
    text = target.info.help if isinstance(target, typer.Typer) else inspect.getdoc(target)
    return str(text).partition("\n\n")[0]


class Page:
    """Mixin for commands: a help page with a section for each panel of options and without truncation."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
            return parsed
        except typer.BadParameter as error:
            if problems := getattr(error.__cause__, "errors", None):  # of pydantic, whose message lacks the value
                error.message = f"found {problems()[0]['input']!r}. {error.message}"
            raise
        except Exception as error:  # a class of click, of which typer has its own copy since version 0.16
            if (name := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
                from lsgcli.cli import elsewhere

                others = {other: flags(command, ctx) for other, command in commands_of(ctx.find_root().command)}
                if answer := elsewhere.for_option(name, flags(self, ctx), others):
                    vars(error).update(message=f"No such option: {name}; lsg has {answer}.", possibilities=None)
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):  # type: ignore[attr-defined]
            if record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None) or f"{parameter.param_type_name}s".capitalize()
                sections.setdefault(panel, []).append(record)
        for title, rows in sections.items():
            write_section(formatter, title, rows)


def flags(command: Any, ctx: Any) -> set[str]:
    """The options of a command, and CKPT if it takes a checkpoint."""
    parameters = command.get_params(ctx)
    names = {name for option in parameters for name in (*option.opts, *option.secondary_opts) if name.startswith("-")}
    return names | {"CKPT" for parameter in parameters if str(parameter.metavar or "").startswith("CKPT")}


def commands_of(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Name -> command of a group and of the groups in it."""
    for name in group.table:
        command = group.get_command(None, name)
        if isinstance(command, Group):
            yield from commands_of(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def write_section(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    """Write a heading and rows of (name, text); click removes styles if the output is not a terminal."""
    with formatter.section(typer.style(title, bold=True)):
        formatter.write_dl([(typer.style(name, fg="cyan"), text) for name, text in rows])


class Command(Page, typer.core.TyperCommand):
    """A command."""


class Group(Page, typer.core.TyperGroup):
    """A command group that builds the commands in ``table`` (name -> ``module:name``) when they are called; see :func:`group`."""

    table: Mapping[str, str]

    def __init__(self, **settings: Any):
        super().__init__(**{**settings, "commands": dict.fromkeys(self.table)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return None
        target = load(self.table[cmd_name])
        if isinstance(target, typer.Typer):
            return typer.main.get_group(target)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cmd_name, cls=Command, context_settings=CONTEXT)(ending()(with_options(target)))
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            from lsgcli.cli import elsewhere

            if hasattr(error, "message") and (answer := elsewhere.for_command(args[0], str(ctx.info_name))):
                error.message = f"No such command {args[0]!r}; lsg has {answer}."
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        write_section(formatter, "Commands", [(name, summary(path)) for name, path in self.table.items()])


def group(table: Mapping[str, str]) -> type[Group]:
    """A group class with the given commands, for ``typer.Typer(cls=...)``."""
    return type("Group", (Group,), {"table": table})
