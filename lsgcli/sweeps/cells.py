"""Execution of the cells of an ablation: each runs once, in any process, and resumes after a stop."""

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lsgcli.config.resolve import differing, from_environment
from lsgcli.config.run import FIELDS, MAY_CHANGE, option_words, without_effect
from lsgcli.errors import DivergedError, RunInUseError, Stopped
from lsgcli.runs import run
from lsgcli.store.rundir import check_links, in_use, is_run, read_result
from lsgcli.sweeps.plan import Cell
from lsgcli.training.signals import StopRequest

Record = dict[str, Any]  # the final record of a run
PAUSE = 1.0  # seconds between checks of cells that other processes are running


def check_same(cell: Cell) -> None:
    """Check that a run in the cell's directory, if any, has the cell's settings.

    Raises:
        RunInUseError: its settings differ.
        CheckpointError: a checkpoint that the run starts from cannot be read.
    """
    if is_run(cell.path):
        run.check_same(cell.path, cell.config)


def run_cell(cell: Cell, emit: Callable[[Record], None], stop: StopRequest, outlets: run.Outlets = run.RECORDS_ONLY) -> Record:
    """The final record of a cell: read from its directory if finished, otherwise by running or resuming it.

    Raises:
        Stopped: a signal was received; repeating the ablation continues it.
        RunInUseError: another process is running it.
        StorageError: a file of the run is a symbolic link.
    """
    check_links(cell.path)
    done = read_result(cell.path)
    if done is not None:
        return done
    try:
        end = run.train(
            cell.config, cell.path, emit, stop, existing="resume" if is_run(cell.path) else "refuse", outlets=outlets
        )
        assert end is not None  # of the only process
        return end
    except DivergedError:
        diverged = read_result(cell.path)
        assert diverged is not None  # a diverged run has a result too
        return diverged


def complete(
    cells: Sequence[Cell],
    attempt: Callable[[Cell], Record],
    stop: StopRequest,
    waiting: Callable[[Sequence[Cell]], None] = lambda cells: None,
    pause: float = PAUSE,
) -> list[Record]:
    """Run all cells in this process; returns their final records, in order.

    Cells are ordinary run directories, so any other program may run them instead (see :func:`command`); their records are in them.
    Cells that another process is running are skipped and checked again later. Processes with the same cells therefore share the work,
    and take over cells of a process that was killed.

    Args:
        attempt: runs a cell, as :func:`run_cell`.
        stop: checked between cells.
        waiting: called once with the remaining cells when all of them are running in other processes.

    Raises:
        Stopped: a signal was received.
        RunInUseError: a directory contains another run.
    """
    records: dict[Cell, Record] = {}
    announced = False
    while left := [cell for cell in cells if cell not in records]:
        before = len(records)
        for cell in left:
            if stop:
                raise Stopped(f"stopped by {stop.signal_name} after {len(records)} of {len(cells)} runs")
            if in_use(cell.path):
                continue
            try:
                records[cell] = attempt(cell)
            except RunInUseError:
                if not (is_run(cell.path) or in_use(cell.path)):
                    raise
                # Another process started it after the check.
        if len(records) == before:
            if not announced:
                waiting(left)
                announced = True
            time.sleep(pause)
    return [records[cell] for cell in cells]


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
    return [*unset, "lsg", "train", *options, "--out", str(cell.path), *more]


def is_plain(words: list[str]) -> bool:
    """Whether the command needs no quotes, which xargs would remove."""
    return shlex.join(words) == " ".join(words)
