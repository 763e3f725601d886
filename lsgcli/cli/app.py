"""``lsg``: the top-level command. Each subcommand is a module, which imports torch only when it runs."""

import os
import sys
from typing import Annotated

import typer

from lsgcli.cli.commands import CONTEXT, HelpAll, group
from lsgcli.cli.ending import ending, refuse_empty, reopen_streams
from lsgcli.errors import DISTRIBUTION, ConfigError, exit_statuses
from lsgcli.system.cpus import wait_passively
from lsgcli.system.interpreter import __version__, filter_warnings, protect_children
from lsgcli.system.ranks import here

COMMANDS = {
    "train": "train:train",
    "diagnose": "diagnose:diagnose",
    "eval": "evaluate:evaluate",
    "predict": "predict:predict",
    "ablate": "ablate:ablate",
    "tune": "tune:tune",
    "inspect-gradients": "inspect_gradients:inspect_gradients",
    "compare": "runs:compare",
    "runs": "runs:runs",
    "show": "show:show",
    "export": "export:export",
    "push": "export:push",
    "bench": "machine:bench",
    "data": "data:app",
    "list": "names:names",
    "recipe": "names:recipe",
    "reproduce": "reproduce:reproduce",
    "doctor": "machine:doctor",
    "skill": "skill:skill",
}

app = group(
    COMMANDS,
    name="lsg",
    epilog="Results go to stdout, everything else to stderr. Exit status: "
    + "; ".join(f"{code} {meaning}" for code, meaning in exit_statuses().items()),
    pretty_exceptions_enable=False,
    context_settings={
        **CONTEXT,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "color": False if os.environ.get("NO_COLOR") else None,
    },
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lsg {__version__} ({DISTRIBUTION})")
        raise typer.Exit


@app.callback()
def top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    help_all: HelpAll = False,
) -> None:
    """Find out why a spiking neural network does not learn, and train networks with a learnable surrogate gradient."""
    os.getcwd()  # fails in a deleted folder, where Intel's library would abort the process
    if context.invoked_subcommand != "train" and "TORCHELASTIC_RUN_ID" in os.environ and (count := here().size) > 1:
        raise ConfigError(
            f"lsg {context.invoked_subcommand}: found {count} processes of torchrun, expected one; only lsg train shares its work",
            "Start it without torchrun.",
        )


def main() -> None:
    """Entry point of ``lsg``."""
    reopen_streams(sys.argv[1:])
    wait_passively()
    protect_children()
    filter_warnings()
    os.environ.pop("RUST_BACKTRACE", None)  # with which libraries in Rust print a trace beside the message about a damaged file
    if here().size > 1:  # DistributedDataParallel warns that keeping its buckets costs time; read when torch is imported
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with ending():
        refuse_empty(sys.argv[1:])
        app(prog_name="lsg")
