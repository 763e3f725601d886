"""``lsg``: the commands, each in a module of its own. Nothing here imports torch: a command does, when it runs."""

from typing import Annotated

import typer

from lsgcli import __version__
from lsgcli.cli import ablate, data, evaluate, export, inspect_gradients, train
from lsgcli.cli.guard import guarded, reopen_streams
from lsgcli.extras import DISTRIBUTION

app = typer.Typer(
    name="lsg",
    help="Train spiking neural networks with a learnable surrogate gradient, and see how gradients flow through them.",
    epilog="Results go to stdout, everything else to stderr. Exit status: 0 done, 1 unforeseen, 2 usage, 3 data, 4 checkpoint, "
    "5 diverged, 6 run directory in use, 7 storage, 8 out of memory, 9 a gate failed, 75 stopped and resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("train", train.train),
    ("eval", evaluate.evaluate),
    ("ablate", ablate.ablate),
    ("inspect-gradients", inspect_gradients.inspect_gradients),
    ("export", export.export),
):
    app.command(name)(guarded(command))
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lsg {__version__} ({DISTRIBUTION})")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train spiking neural networks with a learnable surrogate gradient, and see how gradients flow through them."""


def main() -> None:
    """Entry point of the program ``lsg``."""
    reopen_streams()
    app()
