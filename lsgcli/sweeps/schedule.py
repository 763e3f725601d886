"""The scheduler of ``lsg ablate`` and ``lsg tune``: a strategy decides which cell is next, a runner where it runs.

<root>/jobs.json       {launcher: {"ids": {job: id}, "cancelled": whether `--cancel` ended them}}
"""

import contextlib
import dataclasses
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypedDict

from lsgcli.errors import ConfigError, DivergedError, LsgError, OutOfMemoryError, RunInUseError, Stopped, error_of
from lsgcli.runs.run import RECORDS_ONLY, Outlets
from lsgcli.store.rundir import in_use, is_run
from lsgcli.sweeps.cells import command, run_cell
from lsgcli.sweeps.jobs import ATTEMPTS, FOLDER, CellState, Job, file_of, name_of, read_record, state
from lsgcli.sweeps.launchers.base import Launcher
from lsgcli.sweeps.plan import Cell
from lsgcli.system import files, schema
from lsgcli.system.memory import is_out_of_memory
from lsgcli.training.loop import Emit
from lsgcli.training.signals import StopRequest

BOOK = "jobs.json"
REFRESH = 0.1  # seconds
States = Mapping[Cell, CellState]
AGAIN = "Repeat the command to continue."
log = logging.getLogger("lsg")


class Strategy:
    """Which cells to run: all of a list, in order. A subclass may choose each by the results of others.

    Args:
        root: folder of the runs.
        started: called when a cell starts.
        hint: what to do if cells failed.
    """

    def __init__(self, root: Path, cells: Sequence[Cell], started: Callable[[], None] = lambda: None, hint: str = AGAIN):
        self.root, self.cells, self.started, self.hint = root, cells, started, hint
        self._left = iter(cells)
        self._done = 0

    def active(self) -> AbstractContextManager[None]:
        """A context in which cells run. Those that have not ended when it ends are left to the next command."""
        return contextlib.nullcontext()

    def next(self, slots: int) -> Cell | None:
        """A further cell to run; None if there is none now.

        Args:
            slots: cells that the runner runs at a time.
        """
        return next(self._left, None)

    def prunes(self, cell: Cell, now: CellState) -> bool:
        """Whether to end a cell in this state before its last epoch."""
        return False

    def excuses(self, status: int | None) -> bool:
        """Whether a failure with this exit status is a result of the cell, and the other cells are still worth running."""
        return False

    def ended(self, cell: Cell, now: CellState) -> None:
        """Record a cell that is done, pruned, or has failed with a status that :meth:`excuses` accepts."""
        self._done += 1

    def is_done(self) -> bool:
        """Whether no cell is left, when :meth:`next` returns None."""
        return True

    def progress(self) -> str:
        """What is done, such as ``2 of 4 runs``."""
        return f"{self._done} of {len(self.cells)} runs"


class Runner(ABC):
    """Where cells run.

    Attributes:
        slots: cells that run at a time.
        pause: seconds between calls of :meth:`step`.
    """

    slots: int
    pause: float

    @abstractmethod
    def step(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        """Run those of the cells that are due; returns the states of cells that may have changed."""

    def cancel(self, cell: Cell) -> None:
        """End a cell that runs elsewhere, which saves its state."""
        raise NotImplementedError

    def stopped(self, message: str) -> Stopped:
        """The error of a command that a signal ends."""
        return Stopped(message, hint=AGAIN)


def run(strategy: Strategy, runner: Runner, stop: StopRequest, show: Callable[[States], None] = lambda states: None) -> States:
    """Run the cells of a strategy; returns their states.

    Cells are ordinary run directories. Those that another process is running are left to it, and taken over if it is killed, so that
    several processes share the work.

    Args:
        show: called with the states of all cells so far whenever they may have changed.

    Raises:
        Stopped: a signal was received, or another command has cancelled the jobs.
        LsgError: of the class of the first cell that failed, when all others have ended.
    """
    states: dict[Cell, CellState] = {}
    running: list[Cell] = []
    failed: dict[Cell, CellState] = {}
    announced = False
    with strategy.active():
        while True:
            if stop:
                raise runner.stopped(f"stopped by {stop.signal_name} after {strategy.progress()}")
            while not failed and (cell := strategy.next(runner.slots)) is not None:
                running.append(cell)
            found, before = runner.step(running), len(running)
            for cell, now in found.items():
                if now.kind not in ("pruned", "failed") and strategy.prunes(cell, now):
                    runner.cancel(cell)
                    now = found[cell] = dataclasses.replace(now, kind="pruned")
                if now.kind in ("done", "pruned") or (now.kind == "failed" and strategy.excuses(now.status)):
                    strategy.ended(cell, now)
                    running.remove(cell)
                elif now.kind == "failed":
                    failed[cell] = now
                    running.remove(cell)
            states |= found
            show(states)
            if not running and (failed or strategy.is_done()):
                break
            if not (found or announced):
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


class Pruned(Exception):
    """The strategy prunes the run."""


class InProcess(Runner):
    """One cell after another in this process.

    Args:
        display: opens a display of a run with a title, which is called with its records.
        stop: checked between steps.
        outlets: where runs report.
    """

    slots, pause = 1, 1.0

    def __init__(
        self,
        strategy: Strategy,
        stop: StopRequest,
        display: Callable[[str], AbstractContextManager[Emit]],
        outlets: Outlets = RECORDS_ONLY,
    ):
        self.strategy, self.stop, self.display, self.outlets = strategy, stop, display, outlets

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
        def emit(record: dict[str, Any]) -> None:
            if record["event"] == "start":
                self.strategy.started()
            show(record)
            if record["event"] == "epoch":
                now = CellState("running", record["epoch"] + 1, cell.config.epochs)
                if self.strategy.prunes(cell, now):
                    raise Pruned

        try:
            with self.display(f"[{self.strategy.progress()} done] {cell.label}, seed {cell.config.seed}") as show:
                run_cell(cell, emit, self.stop, self.outlets)
        except DivergedError:  # is a result, too
            pass
        except Stopped as error:
            raise self.stopped(error.message) from None
        except Pruned:
            log.info("%s: %s", name_of(cell.path), (now := dataclasses.replace(state(cell), kind="pruned")).text)
            return now
        except Exception as error:
            status = OutOfMemoryError.exit_code if is_out_of_memory(error) else getattr(error, "exit_code", None)
            if not self.strategy.excuses(status):
                raise
            message = (str(error) or "out of memory").splitlines()[0]
            log.warning("%s: failed: %s", name_of(cell.path), message)
            return CellState("failed", status=status, message=message)
        return state(cell)


class Book(TypedDict):
    """Entry of jobs.json."""

    ids: dict[str, str]
    cancelled: bool


def job_of(cell: Cell) -> Job:
    """The job of a cell, with this process's working directory."""
    return Job(tuple(command(cell, environment={})), str(cell.path), os.getcwd())


class Jobs(Runner):
    """Cells as jobs of a launcher, submitted again if they were lost.

    Several commands may have the same cells; each job is submitted by one of them.

    Args:
        root: folder of the runs.
        name: of the launcher.
    """

    def __init__(self, root: Path, name: str, launcher: Launcher):
        self.root, self.name, self.launcher = root, name, launcher
        self.slots, self.pause = launcher.slots, launcher.pause
        self._following = False
        self._tried: dict[str, tuple[int, int]] = {}  # epochs when last submitted, number of submissions at this epoch
        self._seen: set[str] = set()  # jobs that this command has submitted or seen alive

    def step(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        if not self._following:
            with self._book() as book:
                book["cancelled"] = False
            self._following = True
        states = self._states(cells, self._read()[self.name])
        if any(map(self._is_due, states, states.values())):
            with self._book() as book:  # another command may have submitted them
                states = self._states(cells, book)
                due = {name_of(cell.path): cell for cell, now in states.items() if self._is_due(cell, now)}
                for name, cell in due.items():
                    for suffix in (".log", ".lock", ".json"):
                        files.check_no_link(file_of(cell.path, suffix))
                    self._forget(name, file_of(cell.path, ".json"))
                submitted = self.launcher.submit([*map(job_of, due.values())]) if due else {}
                book["ids"] |= submitted
            for name, cell in due.items():
                now = states[cell]
                states[cell] = CellState("waiting" if name in submitted else "stopped", now.epochs, now.of)
                if name in submitted:
                    self._seen.add(name)
                    self._tried[name] = now.epochs, self._attempts(name, now) + 1
        return states

    def cancel(self, cell: Cell) -> None:
        name, ids = name_of(cell.path), self._read()[self.name]["ids"]
        if name in ids:
            self.launcher.cancel({name: ids[name]})

    def cancel_all(self) -> int:
        """Cancel all jobs, also of other commands; returns how many were alive."""
        with self._book() as book:
            known = self.launcher.alive(book["ids"])
            alive = {
                name: job
                for name, job in book["ids"].items()
                if name in known or files.is_locked(self.root / FOLDER / f"{name}.lock")
            }
            self.launcher.cancel(alive)
            book["ids"], book["cancelled"] = {}, True
        return len(alive)

    def stopped(self, message: str) -> Stopped:
        if self.launcher.lasting:
            hint = "Repeat the command to follow them; add --cancel to cancel them."
            return Stopped(f"{message}; the other jobs continue", hint=hint)
        with self._book() as book:
            self.launcher.cancel({name: book["ids"][name] for name in self._tried.keys() & book["ids"]})
        return super().stopped(message)

    def _states(self, cells: Sequence[Cell], book: Book) -> dict[Cell, CellState]:
        if book["cancelled"]:
            raise Stopped("the jobs were cancelled by another command", hint=AGAIN)
        ids = book["ids"]
        alive = self.launcher.alive(ids)
        reasons, cancelled = self.launcher.reasons(ids), self.launcher.cancelled_elsewhere(ids) & self._seen
        self._seen |= alive
        states = {}
        for cell in cells:
            name = name_of(cell.path)
            now = state(cell, alive=name in alive)
            if now.kind == "waiting":
                now = dataclasses.replace(now, message=reasons.get(name, ""))
            elif now.kind == "done" and name in alive and not self.launcher.lasting:  # its process is about to end
                now = dataclasses.replace(now, kind="running")
            elif now.kind in ("stopped", "failed") and name in cancelled:
                why = f"{self.name} says that job {ids[name]} was cancelled"
                now = dataclasses.replace(now, kind="failed", status=Stopped.exit_code, message=why)
            elif now.kind == "stopped" and self._attempts(name, now) >= ATTEMPTS:
                why = f"interrupted {ATTEMPTS} times without completing an epoch, last with exit status {now.status}"
                now = dataclasses.replace(now, kind="failed", message=why)
            states[cell] = now
        return states

    def _is_due(self, cell: Cell, now: CellState) -> bool:
        """Whether to submit a job: also one that failed before this command."""
        return now.kind == "stopped" or (now.kind == "failed" and name_of(cell.path) not in self._seen)

    def _attempts(self, name: str, now: CellState) -> int:
        """How often a job that this command submitted was started since its latest epoch, by this command or the scheduler."""
        if name not in self._tried:
            return 0
        epochs, count = self._tried[name]
        return max(now.attempts, count if epochs == now.epochs else 0)

    def _forget(self, name: str, file: Path) -> None:
        """Remove the record of the latest attempt, but for the number of attempts under this command."""
        if name in self._tried:
            files.write_json(file, {key: value for key, value in read_record(file).items() if key in ("attempts", "epochs")})
        else:
            file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Book]:
        """The content of jobs.json, with an entry for this launcher."""
        file = self.root / BOOK
        stored: dict[str, Any] = schema.read(file, dict[str, Book], ConfigError) if os.path.lexists(file) else {}
        return {self.name: {"ids": {}, "cancelled": False}, **stored}

    @contextlib.contextmanager
    def _book(self) -> Iterator[Book]:
        """The entry of jobs.json, locked against other commands and written at the end of the block."""
        files.make_folder(self.root / FOLDER, self.root)
        with files.locked(self.root / FOLDER / ".lock", "waiting for another command that submits jobs"):
            books = self._read()
            yield books[self.name]
            files.write_json(self.root / BOOK, books)
