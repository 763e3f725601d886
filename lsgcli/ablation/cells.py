"""Running the cells of an ablation: each once, whoever runs it, whenever it was stopped."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lsgcli import run
from lsgcli.ablation.plan import Cell
from lsgcli.errors import DivergedError, RunInUseError, Stopped
from lsgcli.rundir import in_use, is_run, read_result
from lsgcli.training.signals import StopRequest

Record = dict[str, Any]  # the final record of a run
PAUSE = 1.0  # seconds between two looks at cells that other processes are writing


def check_same(cell: Cell) -> None:
    """See that the cell's directory, if it holds a run, holds this one.

    Raises:
        RunInUseError: it holds a run of other settings.
        CheckpointError: a checkpoint that runs start from cannot be read.
    """
    if begun(cell):
        run.check_same(cell.path, cell.config)


def begun(cell: Cell) -> bool:
    """Whether the cell's directory holds a run, finished or not."""
    return is_run(cell.path)


def run_cell(cell: Cell, emit: Callable[[Record], None], stop: StopRequest) -> Record:
    """The final record of a cell: from its directory if it is finished, else by running or resuming it.

    Raises:
        Stopped: a signal came; the same ablation, started again, goes on.
        RunInUseError: another process is running it.
    """
    done = read_result(cell.path)
    if done is not None:
        return done
    try:
        return run.train(cell.config, cell.path, emit, stop, resume=begun(cell))
    except DivergedError:
        diverged = read_result(cell.path)
        assert diverged is not None  # a run that diverged is a result, too
        return diverged


def complete(
    cells: Sequence[Cell],
    attempt: Callable[[Cell], Record],
    stop: StopRequest,
    waiting: Callable[[Sequence[Cell]], None] = lambda cells: None,
    pause: float = PAUSE,
) -> list[Record]:
    """The final records of all cells, in their order. What another process is running is left to it, and looked at again later:
    several processes given the same cells share the work, and one takes over what another was killed in.

    Args:
        attempt: runs a cell, as :func:`run_cell`.
        stop: looked at between two cells.
        waiting: told, once, when all that is left is with other processes.

    Raises:
        Stopped: a signal came.
        RunInUseError: a directory holds something else.
    """
    records: dict[int, Record] = {}
    told = False
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
                # Another process took it between the look and the attempt.
        left = [cell for number, cell in enumerate(cells) if number not in records]
        if left and len(records) == before:
            if not told:
                waiting(left)
                told = True
            time.sleep(pause)
    return [records[number] for number in range(len(cells))]
