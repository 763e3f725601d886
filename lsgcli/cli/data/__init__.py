"""``lsg data``: commands for data sets."""

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
    help="Inspect, verify, prepare and simulate data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
