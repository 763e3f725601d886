"""Where cells run: in this process, or as jobs of a launcher.

<root>/jobs.json       {launcher: {"ids": {job: id}, "cancelled": whether `--cancel` ended them}}
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypedDict

from lsgcli.errors import ConfigError, DivergedError, OutOfMemoryError, RunInUseError, Stopped
from lsgcli.runs import run
from lsgcli.store.rundir import in_use, is_run, read_result
from lsgcli.sweeps.cells import command
from lsgcli.sweeps.jobs import ATTEMPTS, FOLDER, CellState, Job, file_of, name_of, read_record, state
from lsgcli.sweeps.launchers.base import Launcher
from lsgcli.sweeps.plan import Cell, Repetition
from lsgcli.sweeps.schedule import AGAIN, Runner, Strategy
from lsgcli.system import files, schema
from lsgcli.system.memory import is_out_of_memory
from lsgcli.training.loop import Emit
from lsgcli.training.signals import StopRequest

BOOK = "jobs.json"
log = logging.getLogger("lsg")


class Pruned(Exception):
    """The strategy prunes the run."""


class InProcess(Runner):
    """One cell after another in this process.

    Args:
        strategy: chooses the cells.
        stop: checked between steps.
        display: returns a context, for the title of a run, whose value is called with the run's records.
        outlets: where runs report.
    """

    slots, pause = 1, 1.0

    def __init__(
        self,
        strategy: Strategy,
        stop: StopRequest,
        display: Callable[[str], AbstractContextManager[Emit]],
        outlets: run.Outlets,
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
            with self.display(f"[{self.strategy.progress()} done] {cell.label}, {Repetition.of(cell.config).text}") as show:
                if read_result(cell.path) is None:
                    existing: run.Existing = "resume" if is_run(cell.path) else "refuse"
                    run.train(cell.config, cell.path, emit, self.stop, existing=existing, test=cell.test, outlets=self.outlets)
        except DivergedError:  # divergence is a result, too
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
    return Job(command(cell, environment={}), str(cell.path), os.getcwd())


class Submitted(Runner):
    """Cells as jobs of a launcher, submitted again if they were lost.

    Several commands may have the same cells; each job is submitted by one of them.

    Args:
        strategy: chooses the cells.
        name: name of the launcher.
        launcher: runs the jobs.
    """

    def __init__(self, strategy: Strategy, name: str, launcher: Launcher):
        self.strategy, self.root, self.name, self.launcher = strategy, strategy.root, name, launcher
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
        for cell, now in states.items():
            if now.kind != "failed" and self.strategy.prunes(cell, now):
                ids = self._read()[self.name]["ids"]
                self.launcher.cancel({name: job for name, job in ids.items() if name == name_of(cell.path)})
                states[cell] = dataclasses.replace(now, kind="pruned")
        return states

    def cancel(self) -> int:
        """Cancel all jobs, including those of other commands; returns how many were alive."""
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
        """Whether to submit a job: if it is stopped, or failed before this command."""
        return now.kind == "stopped" or (now.kind == "failed" and name_of(cell.path) not in self._seen)

    def _attempts(self, name: str, now: CellState) -> int:
        """How often a job that this command submitted was started since its latest epoch, by this command or the scheduler."""
        if name not in self._tried:
            return 0
        epochs, count = self._tried[name]
        return max(now.attempts, count if epochs == now.epochs else 0)

    def _forget(self, name: str, file: Path) -> None:
        """Remove the record of the latest attempt, except the number of attempts under this command."""
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
