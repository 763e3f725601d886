"""``lsg data``: the commands about data sets, one thin module each."""

import typer

from lsgcli.cli.data import info, prepare, show, simulate, verify
from lsgcli.cli.guard import guarded

app = typer.Typer(
    help="Look at data sets of recordings, check them, prepare them, and make some.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("prepare", prepare.prepare),
    ("info", info.info),
    ("show", show.show),
    ("simulate", simulate.simulate),
    ("verify", verify.verify),
):
    app.command(name)(guarded(command))
