"""Where cells run: in this process, or as jobs of a launcher."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

from lsgcli.errors import DivergedError, OutOfMemoryError, RunInUseError, Stopped
from lsgcli.runs import run
from lsgcli.runs.report import Page
from lsgcli.store.rundir import in_use, is_run, read_result
from lsgcli.sweeps.cells import command
from lsgcli.sweeps.jobs import ATTEMPTS, FOLDER, CellState, Job, Record, file_of, name_of, note, read_record, state
from lsgcli.sweeps.launchers.base import CANCELLED, Ids, Launcher
from lsgcli.sweeps.plan import Cell, Repetition
from lsgcli.sweeps.schedule import AGAIN, Runner, Strategy
from lsgcli.system import files
from lsgcli.system.memory import is_out_of_memory
from lsgcli.training.loop import Emit
from lsgcli.training.signals import StopRequest

log = logging.getLogger("lsg")


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

    slots, pause = 1, 1.0

    def __init__(
        self,
        strategy: Strategy,
        stop: StopRequest,
        display: Callable[[str], AbstractContextManager[Emit]],
        page: Page,
    ):
        self.strategy, self.stop, self.display, self.page = strategy, stop, display, page

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
            if not self.strategy.excuses(status):
                raise
            message = (str(error) or "out of memory").splitlines()[0]
            log.warning("%s: failed: %s", name_of(cell.path), message)
            return CellState("failed", status=status, message=message)
        return state(cell)

    def _train(self, cell: Cell) -> None:
        def emit(record: dict[str, Any]) -> None:
            if record["event"] == "start":
                self.strategy.started()
            show(record)
            if record["event"] == "epoch":
                now = CellState("running", record["epoch"] + 1, cell.config.epochs)
                if self.strategy.prunes(cell, now):
                    raise Pruned

        title = f"[{self.strategy.progress()} done] {cell.label}, {Repetition.of(cell.config).text}"
        with self.display(title) as show:
            if read_result(cell.path) is None:
                existing: run.Existing = "resume" if is_run(cell.path) else "refuse"
                run.train(cell.config, cell.path, emit, self.stop, existing=existing, test=cell.test, page=self.page)


def job_of(cell: Cell) -> Job:
    """The job of a cell, with this process's working directory."""
    return Job(command(cell, environment={}), str(cell.path.absolute()), os.getcwd())


class Submitted(Runner):
    """Cells as jobs of a launcher, submitted again if they were lost.

    Several commands may have the same cells; each job is submitted by one of them. What is known about a job is in its record.

    Args:
        strategy: chooses the cells.
        name: name of the launcher.
        launcher: runs the jobs.
    """

    def __init__(self, strategy: Strategy, name: str, launcher: Launcher):
        self.strategy, self.name, self.launcher = strategy, name, launcher
        self.slots, self.pause = launcher.slots, launcher.pause
        self.folder = strategy.root / FOLDER
        self._seen: set[str] = set()  # jobs that this command has submitted or seen alive

    def step(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        states = self._states(cells)
        if any(now.kind == "stopped" for now in states.values()):
            with self._locked():
                states = self._states(cells)  # another command may have submitted them
                self._submit(states)
        for cell, now in states.items():
            if now.kind != "failed" and self.strategy.prunes(cell, now):
                self.launcher.cancel(self._ids([name_of(cell.path)]))
                states[cell] = replace(now, kind="pruned")
        return states

    def cancel(self) -> int:
        """Cancel all jobs, including those of other commands; returns how many were alive."""
        with self._locked():
            ids = self._ids(file.stem for file in self.folder.glob("*.jsonl"))
            found = self.launcher.look(ids)
            alive = {name: job for name, job in ids.items() if found.get(name, CANCELLED) != CANCELLED}
            self.launcher.cancel(alive)
            for name in ids:
                note(self.folder / f"{name}.jsonl", cancelled=True)
        return len(alive)

    def stopped(self, message: str) -> Stopped:
        if self.launcher.lasting:
            hint = "Repeat the command to follow them; add --cancel to cancel them."
            return Stopped(f"{message}; the other jobs continue", hint)
        self.launcher.cancel(self._ids(self._seen))
        return super().stopped(message)

    def _record(self, name: str) -> Record:
        return read_record(self.folder / f"{name}.jsonl")

    def _ids(self, names: Iterable[str]) -> Ids:
        """The identifiers of the jobs that this launcher has."""
        records = {name: self._record(name) for name in names}
        return {name: record.id for name, record in records.items() if record.launcher == self.name and record.id}

    def _states(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        found = self.launcher.look(self._ids(name_of(cell.path) for cell in cells))
        return {cell: self._state(cell, found) for cell in cells}

    def _state(self, cell: Cell, found: Mapping[str, str]) -> CellState:
        name = name_of(cell.path)
        record, cancelled = self._record(name), found.get(name) == CANCELLED
        if record.cancelled and name in self._seen:
            raise Stopped("the jobs were cancelled by another command", AGAIN)
        alive = name in found and not cancelled
        if alive and not record.cancelled:
            self._seen.add(name)
        now = state(cell, alive=alive)
        if now.kind == "waiting":
            return replace(now, message=found[name])
        if now.kind == "done" and alive and not self.launcher.lasting:  # its process is about to end
            return replace(now, kind="running")
        if name not in self._seen:
            # What failed before this command is tried again.
            return CellState("stopped", now.epochs, now.of) if now.kind == "failed" else now
        if now.kind in ("stopped", "failed") and cancelled:
            why = f"{self.name} says that job {record.id} was cancelled"
            return replace(now, kind="failed", status=Stopped.exit_code, message=why)
        if now.kind == "stopped" and record.attempts_at(now.epochs) >= ATTEMPTS:
            why = f"interrupted {ATTEMPTS} times without completing an epoch, last with exit status {now.status}"
            return replace(now, kind="failed", message=why)
        return now

    def _submit(self, states: dict[Cell, CellState]) -> None:
        """Submit the jobs that are stopped, as far as the launcher has room for them."""
        due = {name_of(cell.path): cell for cell, now in states.items() if now.kind == "stopped"}
        for name, cell in due.items():
            for suffix in (".log", ".lock", ".jsonl"):
                files.check_no_link(file_of(cell.path, suffix))
            epochs, record = states[cell].epochs, self._record(name)
            attempts = record.attempts_at(epochs) if name in self._seen else 0
            new = Record(launcher=self.name, attempts=attempts, epochs=epochs)
            if new != record:  # a launcher without room for the job is asked often
                note(self.folder / f"{name}.jsonl", **asdict(new))
        ids = self.launcher.submit([job_of(cell) for cell in due.values()]) if due else {}
        for name, job in ids.items():
            note(self.folder / f"{name}.jsonl", id=job)
            self._seen.add(name)
            states[due[name]] = replace(states[due[name]], kind="waiting")

    def _locked(self) -> AbstractContextManager[None]:
        """A context in which no other command submits or cancels jobs."""
        files.make_folder(self.folder, self.strategy.root)
        return files.locked(self.folder / ".lock", "waiting for another command that submits jobs")
