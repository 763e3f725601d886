"""An ablation whose cells run as jobs of a launcher: submits them, follows them, and submits those that were lost again.

<root>/jobs.json       {launcher: {"ids": {job: id}, "cancelled": whether `--cancel` ended them}}
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict

from lsgcli.errors import ConfigError, LsgError, Stopped, error_of
from lsgcli.store.rundir import read_result
from lsgcli.sweeps.cells import command
from lsgcli.sweeps.jobs import ATTEMPTS, FOLDER, Job, State, read_record, state
from lsgcli.sweeps.launchers.base import Launcher
from lsgcli.sweeps.plan import Cell, Plan
from lsgcli.system import files, schema
from lsgcli.training.signals import StopRequest

BOOK = "jobs.json"
REFRESH = 0.1  # seconds
States = Mapping[str, State]  # by name of the job


class Book(TypedDict):
    """Entry of jobs.json."""

    ids: dict[str, str]
    cancelled: bool


def job_of(cell: Cell) -> Job:
    """The job of a cell, with this process's working directory."""
    return Job(tuple(command(cell, environment={})), str(cell.path), os.getcwd())


class Launch:
    """The jobs of a plan with one launcher. Several processes may follow the same plan; each job is submitted by one of them.

    Args:
        name: of the launcher.
    """

    def __init__(self, plan: Plan, name: str, launcher: Launcher):
        self.cells = plan.cells()
        self.jobs = {job.name: job for job in map(job_of, self.cells)}
        self.root, self.name, self.launcher = plan.root, name, launcher
        self._following = False
        self._tried: dict[str, tuple[int, int]] = {}  # epochs when last submitted, number of submissions at this epoch
        self._seen: set[str] = set()  # jobs that this command has submitted or seen alive

    def follow(self, show: Callable[[States], None], stop: StopRequest) -> list[dict[str, Any]]:
        """Run all cells; returns their final records, in order.

        Args:
            show: called with the states whenever they may have changed.

        Raises:
            Stopped: a signal was received, or another command has cancelled the jobs.
            LsgError: of the class of the first cell that failed, when all others have ended.
        """
        with self._book() as book:
            book["cancelled"] = False
        self._following = True
        while True:
            states = self._step()
            show(states)
            if all(one.kind in ("done", "failed") for one in states.values()) and not self._is_busy():
                break
            until = time.monotonic() + self.launcher.pause
            while not stop and time.monotonic() < until:
                time.sleep(REFRESH)
            if stop:
                self._leave(stop, states)
        if failed := {name: one for name, one in states.items() if one.kind == "failed"}:
            raise self._failure(failed)
        return [record for cell in self.cells if (record := read_result(cell.path)) is not None]

    def cancel(self) -> int:
        """Cancel all jobs; returns how many were alive."""
        with self._book() as book:
            alive = {
                name: book["ids"][name]
                for name, one in self._states(book).items()
                if name in book["ids"] and one.kind in ("running", "waiting")
            }
            self.launcher.cancel(alive)
            book["ids"], book["cancelled"] = {}, True
        return len(alive)

    def _step(self) -> dict[str, State]:
        """Submit the jobs that are due; returns the states of all."""
        states = self._states(self._read()[self.name])
        if any(map(self._is_due, states, states.values())):
            with self._book() as book:  # another command may have submitted them
                states = self._states(book)
                due = [self.jobs[name] for name, one in states.items() if self._is_due(name, one)]
                for job in due:
                    for suffix in (".log", ".lock", ".json"):
                        files.check_no_link(job.file(suffix))
                    self._forget(job)
                submitted = self.launcher.submit(due) if due else {}
                book["ids"] |= submitted
            for name in submitted:
                one = states[name]
                self._seen.add(name)
                self._tried[name] = one.epochs, self._attempts(name, one) + 1
                states[name] = State("waiting", one.epochs, one.of)
        return states

    def _states(self, book: Book) -> dict[str, State]:
        if book["cancelled"] and self._following:
            raise Stopped("the jobs were cancelled by another command", hint="Repeat the command to continue.")
        ids = book["ids"]
        alive = self.launcher.alive(ids)
        reasons, cancelled = self.launcher.reasons(ids), self.launcher.cancelled_elsewhere(ids) & self._seen
        self._seen |= alive
        states = {name: state(cell, alive=name in alive) for name, cell in zip(self.jobs, self.cells, strict=True)}
        for name, one in states.items():
            if one.kind == "waiting":
                states[name] = dataclasses.replace(one, message=reasons.get(name, ""))
            elif one.kind in ("stopped", "failed") and name in cancelled:
                why = f"{self.name} says that job {ids[name]} was cancelled"
                states[name] = dataclasses.replace(one, kind="failed", status=Stopped.exit_code, message=why)
            elif one.kind == "stopped" and self._attempts(name, one) >= ATTEMPTS:
                why = f"interrupted {ATTEMPTS} times without completing an epoch, last with exit status {one.status}"
                states[name] = dataclasses.replace(one, kind="failed", message=why)
        return states

    def _is_due(self, name: str, one: State) -> bool:
        """Whether to submit a job: also one that failed before this command."""
        return one.kind == "stopped" or (one.kind == "failed" and name not in self._seen)

    def _attempts(self, name: str, one: State) -> int:
        """How often a job that this command submitted was started since its latest epoch, by this command or the scheduler."""
        if name not in self._tried:
            return 0
        epochs, count = self._tried[name]
        return max(one.attempts, count if epochs == one.epochs else 0)

    def _forget(self, job: Job) -> None:
        """Remove the record of the latest attempt, but for the number of attempts under this command."""
        file = job.file(".json")
        if job.name in self._tried:
            files.write_json(file, {key: value for key, value in read_record(file).items() if key in ("attempts", "epochs")})
        else:
            file.unlink(missing_ok=True)

    def _is_busy(self) -> bool:
        """Whether processes that end with this command are about to end."""
        return not self.launcher.lasting and bool(self.launcher.alive(self._read()[self.name]["ids"]))

    def _read(self) -> dict[str, Book]:
        """The content of jobs.json, with an entry for this launcher."""
        file = self.root / BOOK
        stored: dict[str, Any] = schema.read(file, dict[str, Book], ConfigError) if os.path.lexists(file) else {}
        return {self.name: {"ids": {}, "cancelled": False}, **stored}

    @contextmanager
    def _book(self) -> Iterator[Book]:
        """The entry of jobs.json, locked against other commands and written at the end of the block."""
        files.make_folder(self.root / FOLDER, self.root)
        with files.locked(self.root / FOLDER / ".lock", "waiting for another command that submits jobs"):
            books = self._read()
            yield books[self.name]
            files.write_json(self.root / BOOK, books)

    def _leave(self, stop: StopRequest, states: States) -> None:
        done = f"{sum(one.kind == 'done' for one in states.values())} of {len(states)} runs"
        if self.launcher.lasting:
            raise Stopped(
                f"stopped by {stop.signal_name} after {done}; the other jobs continue",
                hint="Repeat the command to follow them; add --cancel to cancel them.",
            )
        with self._book() as book:
            self.launcher.cancel({name: book["ids"][name] for name in self._tried.keys() & book["ids"]})
        raise Stopped(f"stopped by {stop.signal_name} after {done}", hint="Repeat the command to continue.")

    def _failure(self, failed: States) -> LsgError:
        lines = [f"{len(failed)} of {len(self.jobs)} runs failed:"]
        lines += [f"  {name}: {one.message} (see {self.jobs[name].file('.log')})" for name, one in failed.items()]
        status = next(iter(failed.values())).status
        return error_of(status or 1)(
            "\n".join(lines), hint="Repeat the command to run them again; --collect shows the other runs."
        )
