"""A cell in this process, or as a shell command: it runs once, and resumes after a stop."""

import os
import shlex
from collections.abc import Mapping

from lsgcli.config.resolve import differing, from_environment
from lsgcli.config.run import FIELDS, MAY_CHANGE, option_words, without_effect
from lsgcli.runs import run
from lsgcli.store.rundir import check_links, is_run, read_result
from lsgcli.sweeps.plan import Cell
from lsgcli.training.loop import Emit
from lsgcli.training.signals import StopRequest


def check_same(cell: Cell) -> None:
    """Check that a run in the cell's directory, if any, has the cell's settings.

    Raises:
        RunInUseError: its settings differ.
        CheckpointError: a checkpoint that the run starts from cannot be read.
    """
    if is_run(cell.path):
        run.check_same(cell.path, cell.config)


def run_cell(cell: Cell, emit: Emit, stop: StopRequest, outlets: run.Outlets = run.RECORDS_ONLY) -> None:
    """Run or resume a cell, unless it is finished.

    Raises:
        Stopped: a signal was received; repeating the command continues it.
        DivergedError: it diverged, which is a result.
        RunInUseError: another process is running it.
        StorageError: a file of the run is a symbolic link.
    """
    check_links(cell.path)
    if read_result(cell.path) is None:
        existing: run.Existing = "resume" if is_run(cell.path) else "refuse"
        run.train(cell.config, cell.path, emit, stop, existing=existing, test=cell.test, outlets=outlets)


def command(cell: Cell, more: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Arguments of the `lsg train` command that runs this cell; the same command resumes it if it was stopped.

    Options are included if they differ from the recipe or the data set's preset, or if an ``LSG_*`` variable would override them. Variables without
    effect in this cell are unset.

    Args:
        more: additional options.
        environment: of the process that runs the command.
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
