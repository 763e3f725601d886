"""The scheduler of ``lsg ablate`` and ``lsg tune``: a strategy decides which cell is next, a runner where it runs, such as in this process."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lsgcli.errors import DivergedError, LsgError, OutOfMemoryError, RunInUseError, Stopped, error_of, log
from lsgcli.store.rundir import in_use, is_run, read_result
from lsgcli.sweeps.jobs import CellState, file_of, name_of, state
from lsgcli.sweeps.plan import Cell
from lsgcli.system.memory import is_out_of_memory
from lsgcli.system.schema import Record
from lsgcli.training.signals import StopRequest, reason

if TYPE_CHECKING:
    from lsgcli.runs.report import Page
    from lsgcli.training.loop import Emit

REFRESH = 0.1  # seconds
States = Mapping[Cell, CellState]
AGAIN = "Repeat the command to continue."


class Strategy:
    """Which cells to run: all of a list, in order. A subclass may choose each by the results of others.

    Args:
        root: folder of the runs.
        cells: in order.
        hint: what to do if cells failed.
    """

    def __init__(self, root: Path, cells: Sequence[Cell], hint: str = AGAIN):
        self.root = root
        self.cells = cells
        self.hint = hint
        self._left = iter(cells)
        self._done = 0

    def active(self) -> AbstractContextManager[None]:
        """A context in which cells run. On exit, unfinished cells are left to the next command."""
        return contextlib.nullcontext()

    def next(self, slots: int) -> Cell | None:
        """A further cell to run; None if there is none now.

        Args:
            slots: number of cells that the runner runs at a time.
        """
        return next(self._left, None)

    def prunes(self, cell: Cell, now: CellState) -> bool:
        """Whether to end a cell in this state before its last epoch."""
        return False

    def tolerates(self, status: int | None) -> bool:
        """Whether a failure with this exit status counts as a result of the cell, so that the other cells still run."""
        return False

    def ended(self, cell: Cell, now: CellState) -> None:
        """Record a cell that is done, pruned, or has failed with a status that :meth:`tolerates` accepts."""
        self._done += 1

    def progress(self) -> str:
        """What is done, such as ``2 of 4 runs``."""
        return f"{self._done} of {len(self.cells)} runs"


class Runner(ABC):
    """Where the cells of a strategy run.

    Attributes:
        slots: number of cells that run at a time.
        pause: seconds between calls of :meth:`step`.
    """

    slots: int
    pause: float

    @abstractmethod
    def step(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        """Run the cells that are due, and end those that the strategy prunes; returns the states that may have changed."""

    def stopped(self, message: str) -> Stopped:
        """The error of a command that a signal ends."""
        return Stopped(message, AGAIN)


class Pruned(Exception):
    """The strategy prunes the run."""


class InProcess(Runner):
    """One cell after another in this process.

    Args:
        strategy: chooses the cells.
        stop: checked between steps.
        display: returns a context, for the title of a run, whose value is called with the run's records.
        page: the text of a run's ``report.html``.
    """

    slots = 1
    pause = 1.0

    def __init__(
        self,
        strategy: Strategy,
        stop: StopRequest,
        display: Callable[[str], AbstractContextManager["Emit"]],
        page: "Page",
    ):
        self.strategy = strategy
        self.stop = stop
        self.display = display
        self.page = page

    def step(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        for cell in cells:
            if not in_use(cell.path):
                try:
                    return {cell: self._run(cell)}
                except RunInUseError:
                    if not (is_run(cell.path) or in_use(cell.path)):
                        raise
                    # Another process started it after the check.
        return {}

    def _run(self, cell: Cell) -> CellState:
        try:
            self._train(cell)
        except DivergedError:  # divergence is a result, too
            pass
        except Stopped as error:
            raise self.stopped(error.message) from None
        except Pruned:
            pruned = replace(state(cell), kind="pruned")
            log.info("%s: %s", name_of(cell.path), pruned.text)
            return pruned
        except Exception as error:
            status = OutOfMemoryError.exit_code if is_out_of_memory(error) else getattr(error, "exit_code", None)
            if not self.strategy.tolerates(status):
                raise
            message = (str(error) or "out of memory").splitlines()[0]
            log.warning("%s: failed: %s", name_of(cell.path), message)
            return CellState("failed", status=status, message=message)
        return state(cell)

    def _train(self, cell: Cell) -> None:
        from lsgcli.runs.run import Existing, train  # with torch, which errors in the arguments do without

        def emit(record: Record) -> None:
            show(record)
            if record["event"] == "epoch":
                now = CellState("running", record["epoch"] + 1, cell.config.epochs)
                if self.strategy.prunes(cell, now):
                    raise Pruned

        title = f"[{self.strategy.progress()} done] {cell.label}, {cell.repetition.text}"
        with self.display(title) as show:
            if read_result(cell.path) is None:
                existing: Existing = "resume" if is_run(cell.path) else "refuse"
                train(cell.config, cell.path, emit, self.stop, existing=existing, test=cell.test, page=self.page)


def run(strategy: Strategy, runner: Runner, stop: StopRequest, show: Callable[[States], None] = lambda states: None) -> States:
    """Run the cells of a strategy; returns their states.

    Cells are ordinary run directories. A cell that another process is running is left to it, and taken over if that process is killed, so
    that several processes share the work.

    Args:
        show: called with the states of all cells so far whenever they may have changed.

    Raises:
        Stopped: a signal was received, the time is up, or another command has cancelled the jobs.
        LsgError: a cell failed; raised when all others have ended, with the class of the first failure.
    """
    states: dict[Cell, CellState] = {}
    running = []
    failed: dict[Cell, CellState] = {}
    announced = False
    with strategy.active():
        while True:
            if stop:
                raise runner.stopped(f"{reason(stop.code)} after {strategy.progress()}")
            while not failed and (cell := strategy.next(runner.slots)) is not None:
                running.append(cell)
            if not running:
                break
            changed = runner.step(running)
            before = len(running)
            for cell, now in changed.items():
                if now.kind == "failed" and not strategy.tolerates(now.status):
                    failed[cell] = now
                elif now.kind in ("done", "pruned", "failed"):
                    strategy.ended(cell, now)
                else:
                    continue
                running.remove(cell)
            states |= changed
            show(states)
            if not (changed or announced):
                log.info("waiting for other processes: %s done", strategy.progress())
                announced = True
            until = time.monotonic() + runner.pause * (len(running) == before)
            while not stop and time.monotonic() < until:
                time.sleep(REFRESH)
    if failed:
        raise _failure(failed, len(states), strategy.hint)
    return states


def _failure(failed: States, count: int, hint: str) -> LsgError:
    lines = [f"{len(failed)} of {count} runs failed:"]
    for cell, now in failed.items():
        lines.append(f"  {name_of(cell.path)}: {now.message} (see {file_of(cell.path.absolute(), '.log')})")
    return error_of(next(iter(failed.values())).status or 1)("\n".join(lines), hint=hint)
