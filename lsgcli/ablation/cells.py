"""Execution of the cells of an ablation: each runs once, in any process, and resumes after a stop."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lsgcli import run
from lsgcli.ablation.plan import Cell
from lsgcli.errors import DivergedError, RunInUseError, Stopped
from lsgcli.rundir import in_use, is_run, read_result
from lsgcli.training.signals import StopRequest

Record = dict[str, Any]  # the final record of a run
PAUSE = 1.0  # seconds between checks of cells that other processes are running


def check_same(cell: Cell) -> None:
    """Check that a run in the cell's directory, if any, has the cell's settings.

    Raises:
        RunInUseError: its settings differ.
        CheckpointError: a checkpoint that the run starts from cannot be read.
    """
    if begun(cell):
        run.check_same(cell.path, cell.config)


def begun(cell: Cell) -> bool:
    """Whether the cell's directory contains a run, finished or not."""
    return is_run(cell.path)


def run_cell(cell: Cell, emit: Callable[[Record], None], stop: StopRequest) -> Record:
    """The final record of a cell: read from its directory if finished, otherwise by running or resuming it.

    Raises:
        Stopped: a signal was received; repeating the ablation continues it.
        RunInUseError: another process is running it.
    """
    done = read_result(cell.path)
    if done is not None:
        return done
    try:
        return run.train(cell.config, cell.path, emit, stop, resume=begun(cell))
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
    """The final records of all cells, in order.

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
    records: dict[int, Record] = {}
    announced = False
    while len(records) < len(cells):
        before = len(records)
        for number, cell in enumerate(cells):
            if stop:
                raise Stopped(f"stopped by {stop.signal_name} after {len(records)} of {len(cells)} runs")
            if number in records or in_use(cell.path):
                continue
            try:
                records[number] = attempt(cell)
            except RunInUseError:
                if not (begun(cell) or in_use(cell.path)):
                    raise
                # Another process started it after the check.
        left = [cell for number, cell in enumerate(cells) if number not in records]
        if left and len(records) == before:
            if not announced:
                waiting(left)
                announced = True
            time.sleep(pause)
    return [records[number] for number in range(len(cells))]
