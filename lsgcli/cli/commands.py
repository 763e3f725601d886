"""Command groups with lazy imports, and the layout of help pages.

To keep help pages fast, the module of a command is imported only when the command is called, its options are built only when they are
parsed or shown, and pages are laid out by click's plain formatter. A page shows the common settings, ``--help-all`` all of them.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import TextWrapper
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from lsgcli.cli.ending import ending
from lsgcli.cli.options import with_options
from lsgcli.config.run import COMMON, SECTIONS

# Values of absent flags. typer would convert None to bool with pydantic, whose import takes longer than printing a page.
CONTEXT = {"default_map": dict.fromkeys(("help", "help_all", "install_completion", "show_completion"), False)}
UsageError: Any = typer.BadParameter.__base__  # of click, of which typer has its own copy since version 0.16
# Options that pages with settings leave out, too.
RARE = {"force", "print_config", "as_json", "devices", "no_test", "quiet", "verbose", "plugin"}
COMPLETE = "lsgcli.complete"  # in the meta data of a context whose pages show all settings


def load(path: str) -> Any:
    """The function or :class:`typer.Typer` at ``module:name``, a module of ``lsgcli.cli``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"lsgcli.cli.{module}"), name)


def summary(path: str) -> str:
    """First paragraph of a command's help; that of a function from the source text of its module, whose import takes longer."""
    module, _, name = path.partition(":")
    body = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")).body
    texts = [ast.get_docstring(node) for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    return str(texts[0] if texts else load(path).info.help).partition("\n\n")[0]


def _print_pages(ctx: typer.Context, wanted: bool) -> None:
    """Print the complete page of a command, or those of a group and of all commands in it, and exit."""
    if not wanted:
        return
    ctx.meta[COMPLETE] = True  # shared with the contexts below
    inside = commands_of(ctx.command) if isinstance(ctx.command, Group) else ()
    pages = [ctx.get_help(), *(type(ctx)(command, info_name=name, parent=ctx).get_help() for name, command in inside)]
    typer.echo("\n\n\n".join(pages), color=ctx.color)
    ctx.exit()


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all", is_eager=True, callback=_print_pages, help="Show the help of all options and commands, and exit."
    ),
]


@ending()
def _import(files: list[Path] | None) -> None:
    """Import plug-ins, before other options are checked."""
    from lsgcli.store import plugins

    for file in files or ():
        plugins.named(file)


def of_every_command(
    *,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            is_eager=True,
            callback=_import,
            metavar="FILE.py",
            help="Import a Python file whose decorators register networks, neurons, data sets, ...; repeatable.",
        ),
    ] = None,
    help_all: HelpAll = False,
) -> None:
    """Options of every command, which have an effect while they are read."""


class Page:
    """Mixin for commands: a help page with a section for each panel of options and without truncation."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.BadParameter as error:
            if problems := getattr(error.__cause__, "errors", None):  # of pydantic, whose message lacks the value
                found = problems()[0]["input"]
                raise typer.BadParameter(f"found {found!r}. {error.message}", error.ctx, error.param) from None
            raise
        except UsageError as error:
            if not hasattr(error, "possibilities"):  # which it has if an option is unknown
                raise
            from lsgcli.cli import elsewhere

            if answer := elsewhere.for_option(error.option_name, flags(self, ctx)):
                raise UsageError(f"No such option: {error.option_name}; lsg has {answer}.", ctx) from None
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # Names such as ms-resnet18 are not broken at their hyphens.
        hyphens = TextWrapper.wordsep_re
        TextWrapper.wordsep_re = TextWrapper.wordsep_simple_re
        super().format_help(ctx, formatter)  # type: ignore[misc]
        TextWrapper.wordsep_re = hyphens

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        parameters = self.get_params(ctx)  # type: ignore[attr-defined]
        panels = [getattr(one, "rich_help_panel", None) or f"{one.param_type_name}s".capitalize() for one in parameters]
        brief = COMPLETE not in ctx.meta and not SECTIONS.keys().isdisjoint(panels)
        left_out = 0
        for parameter, panel in zip(parameters, panels, strict=True):
            if brief and (parameter.name in RARE or (panel in SECTIONS and parameter.name not in COMMON)):
                left_out += 1
            elif record := parameter.get_help_record(ctx):
                sections.setdefault(panel, []).append(record)
        for title, rows in sections.items():
            write_section(formatter, title, rows)
        if left_out:
            formatter.write_paragraph()
            formatter.write_text(f"{left_out} more options: `{ctx.command_path} --help-all`, and docs/settings.md.")


def flags(command: Any, ctx: Any) -> set[str]:
    """The options of a command, and CKPT if it takes a checkpoint."""
    parameters = command.get_params(ctx)
    names = {name for option in parameters for name in (*option.opts, *option.secondary_opts) if name.startswith("-")}
    return names | {"CKPT" for parameter in parameters if parameter.metavar == "CKPT"}


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
        formatter.write_dl(rows)


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
        settings = CONTEXT | getattr(target, "context_settings", {})
        app.command(cmd_name, cls=Command, context_settings=settings)(ending()(with_options(target, of_every_command)))
        return typer.main.get_command(app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except UsageError:
            from lsgcli.cli import elsewhere

            if answer := elsewhere.for_command(args[0], str(ctx.info_name)):
                raise UsageError(f"No such command {args[0]!r}; lsg has {answer}.", ctx) from None
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        write_section(formatter, "Commands", [(name, summary(path)) for name, path in self.table.items()])


def group(table: Mapping[str, str], **settings: Any) -> typer.Typer:
    """A group with the commands in ``table``, and ``settings`` of :class:`typer.Typer`."""
    kind = type("Group", (Group,), {"table": table})
    return typer.Typer(cls=kind, no_args_is_help=True, rich_markup_mode=None, **settings)
