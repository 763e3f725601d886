"""A cell as a shell command, and whether its directory contains its run."""

import os
import shlex
from collections.abc import Mapping

from lsgcli.config.resolve import differing, from_environment
from lsgcli.config.run import FIELDS, MAY_CHANGE, option_words, without_effect
from lsgcli.runs import checks
from lsgcli.store.rundir import is_run
from lsgcli.sweeps.plan import Cell


def check_same(cell: Cell) -> None:
    """Check that a run in the cell's directory, if any, has the cell's settings.

    Raises:
        RunInUseError: its settings differ.
        CheckpointError: a checkpoint that the run starts from cannot be read.
    """
    if is_run(cell.path):
        checks.check_same(cell.path, cell.config)


def command(cell: Cell, more: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Arguments of the `lsg train` command that runs this cell; the same command resumes it if it was stopped.

    Options are included if they differ from the recipe or the data set's preset, or if an ``LSG_*`` variable would override them. Variables without
    effect in this cell are unset.

    Args:
        more: additional options.
        environment: environment variables of the process that runs the command.
    """
    config = cell.config
    variables = from_environment(environment)
    idle = [name for name in variables if name not in MAY_CHANGE and without_effect({name: None}, [config])]
    needed = {"dataset", "recipe", "method", "seed", *differing(config), *variables}.difference(idle)
    names = [name for name in FIELDS if name in needed and getattr(config, name) is not None]
    options = [word for name in names for word in option_words(name, getattr(config, name))]
    unset = ["env", *(word for name in idle for word in ("-u", f"LSG_{name.upper()}"))] if idle else []
    return [*unset, "lsg", "train", *options, *["--no-test"] * (not cell.test), "--out", str(cell.path), *more]


def is_plain(words: list[str]) -> bool:
    """Whether the command needs no quotes, which xargs would remove."""
    return shlex.join(words) == " ".join(words)
