"""``lsg data``: the commands about data sets, one thin module each."""

import typer

from lsgcli.cli.commands import group

COMMANDS = {
    "prepare": "data.prepare:prepare",
    "info": "data.info:info",
    "show": "data.show:show",
    "simulate": "data.simulate:simulate",
    "verify": "data.verify:verify",
}

app = typer.Typer(
    name="data",
    cls=group(COMMANDS),
    help="Look at data sets of recordings, check them, prepare them, and make some.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
