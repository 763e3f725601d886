"""Launchers, which run the jobs of an ablation or a search, how jobs are followed, and the launcher ``local``.

A launcher is a subclass of :class:`Launcher`, registered by name. It submits jobs, looks at them, and cancels them. The state of
a job is read from files, see :mod:`lsgcli.sweeps.jobs`; :class:`Submitted` submits it again if it was lost.
"""

import itertools
import json
import os
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config.fields import Values
from lsgcli.errors import ConfigError, Stopped, refuse, require
from lsgcli.registry import register
from lsgcli.sweeps.cells import command
from lsgcli.sweeps.jobs import (
    ATTEMPTS,
    FOLDER,
    RECORD,
    CellState,
    Job,
    Record,
    append_record,
    file_of,
    name_of,
    read_record,
    state,
)
from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.schedule import Runner, Strategy
from lsgcli.system import cpus, files, interpreter
from lsgcli.training import launch

KEY = r"\s*[\w-]+="  # of an option, with its sign
NUMBER = r"0*[1-9]\d{0,8}"
Ids = Mapping[str, str]  # name of a job -> the launcher's identifier
CANCELLED = "cancelled"  # what a launcher says of a job that was cancelled with the scheduler's own command


class Launcher(ABC):
    """A way to run jobs.

    Attributes:
        extra: name of the extra in ``pyproject.toml`` that it requires, if any.
        packages: import names of the packages in the extra.
        options: type of each option, text or a whole number above 0, by its name.
        pause: seconds between calls of :meth:`look`.
        lasting: whether its jobs outlive the command.
        slots: number of jobs that a search runs at a time; its further settings depend on their results.
    """

    extra = ""
    packages: tuple[str, ...] = ()
    options: Mapping[str, type[str] | type[int]] = {}
    pause = 0.5
    lasting: bool = True
    slots: int = 8

    def __init__(self, folder: Path, options: Values):
        """
        Args:
            folder: folder of the files of the jobs.
            options: converted values of the options.
        """
        self.folder = folder
        self.given = options

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> Ids:
        """Submit jobs, or the first of them if there is no room for all; returns the identifiers of the submitted jobs.

        A job makes an :func:`~lsgcli.sweeps.jobs.attempt`, and may be repeated by the launcher itself.

        Raises:
            ConfigError: an option is refused.
        """

    @abstractmethod
    def look(self, ids: Ids) -> Mapping[str, str]:
        """The jobs that are queued or running, by name; all of them if the scheduler does not answer.

        The value is the scheduler's reason why a job is still queued, or empty; or ``CANCELLED``.
        """

    @abstractmethod
    def cancel(self, ids: Ids) -> None:
        """Cancel jobs that are alive; those that are running save their state."""


def make(name: str, text: str, folder: Path) -> Launcher:
    """The launcher ``name`` with options such as ``partition=gpu,time=4:00:00``.

    Raises:
        ConfigError: an option is unknown or invalid, or a required package is not installed.
    """
    kind: type[Launcher] = registry.get("launcher", name)
    options = _parse(name, text, kind.options)
    require(kind.packages, f"--launcher {name}", kind.extra)
    return kind(folder, options)


def _parse(name: str, text: str, known: Mapping[str, type[str] | type[int]]) -> dict[str, Any]:
    """The values of ``KEY=VALUE,KEY=VALUE``; a part without ``=`` continues the value before it, as in ``nodelist=a,b``."""
    options = {}
    problems = []
    for part in re.split(rf",(?={KEY})", text) if text else ():
        key, _, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not value:
            problems.append(f"--{name}: found {part!r}, expected KEY=VALUE,KEY=VALUE,...")
        elif key not in known:
            problems.append(f"--{name}: {registry.unknown('option', key, sorted(known))}")
        elif known[key] is int and not re.fullmatch(NUMBER, value):
            problems.append(f"--{name} {key}: found {value!r}, expected a whole number, at least 1")
        else:
            options[key] = known[key](value)
    refuse(problems)
    return options


@register("launcher", "local")
class Local(Launcher):
    """Processes on this machine, several at a time or one on each GPU; they end with the command."""

    options = {"jobs": int, "devices": str}
    lasting = False

    def __init__(self, folder: Path, options: Values):
        super().__init__(folder, options)
        devices = launch.parse(options["devices"]) if "devices" in options else launch.Devices(1)
        self.slots = options.get("jobs", devices.count)
        if self.slots < len(devices.gpus):
            raise ConfigError(
                f"--jobs: found {self.slots}, expected at least {len(devices.gpus)}, one for each of --devices",
                "Omit --jobs, or use fewer devices.",
            )
        self.environments = [cpus.share(self.slots) for _ in range(self.slots)]
        for environment, gpu in zip(self.environments, itertools.cycle(devices.visible()), strict=False):
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._running: dict[str, tuple[subprocess.Popen[bytes], dict[str, str]]] = {}

    def submit(self, jobs: Sequence[Job]) -> Ids:
        self.look({})
        ids = {}
        for job in jobs[: len(self.environments)]:
            environment = self.environments.pop(0)
            process = subprocess.Popen(
                interpreter.command("lsgcli.sweeps.jobs", json.dumps(asdict(job))),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C interrupts this command only, which stops its jobs
            )
            self._running[job.name] = process, environment
            ids[job.name] = str(process.pid)
        return ids

    def look(self, ids: Ids) -> Mapping[str, str]:
        for name, (process, environment) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                self.environments.append(environment)
        return dict.fromkeys(self._running, "")

    def cancel(self, ids: Ids) -> None:
        own = [self._running[name][0] for name in self.look(ids) if name in ids]
        for process in own:
            process.terminate()
        for process in own:
            process.wait()


def job_of(cell: Cell) -> Job:
    """The job of a cell; launchers start it in the working directory of this process."""
    return Job(command(cell, environment={}), str(cell.path.absolute()))


class Submitted(Runner):
    """Cells as jobs of a launcher, submitted again if they were lost.

    Several commands may have the same cells; each job is submitted by one of them. What is known about a job is in its record.

    Args:
        strategy: chooses the cells.
        name: name of the launcher.
        launcher: runs the jobs.
    """

    def __init__(self, strategy: Strategy, name: str, launcher: Launcher):
        self.strategy = strategy
        self.name = name
        self.launcher = launcher
        self.slots = launcher.slots
        self.pause = launcher.pause
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
                self.launcher.cancel(self._ids([file_of(cell.path, RECORD)]))
                states[cell] = replace(now, kind="pruned")
        return states

    def cancel(self) -> int:
        """Cancel all jobs, including those of other commands; returns how many were alive."""
        with self._locked():
            ids = self._ids(self.folder.glob(f"*{RECORD}"))
            alive = [name for name, reason in self.launcher.look(ids).items() if reason != CANCELLED]
            self.launcher.cancel(ids)
        return len(alive)

    def stopped(self, message: str) -> Stopped:
        if self.launcher.lasting:
            hint = "Repeat the command to follow them; add --cancel to cancel them."
            return Stopped(f"{message}; the other jobs continue", hint)
        self.cancel()
        return super().stopped(message)

    def _ids(self, records: Iterable[Path]) -> Ids:
        """The identifiers of the jobs that this launcher has, from their records."""
        found = {file.stem: read_record(file) for file in records}
        return {name: record.id for name, record in found.items() if record.launcher == self.name and record.id}

    def _states(self, cells: Sequence[Cell]) -> dict[Cell, CellState]:
        found = self.launcher.look(self._ids(file_of(cell.path, RECORD) for cell in cells))
        return {cell: self._state(cell, found) for cell in cells}

    def _state(self, cell: Cell, found: Mapping[str, str]) -> CellState:
        name = name_of(cell.path)
        cancelled = found.get(name) == CANCELLED
        alive = name in found and not cancelled
        now = state(cell, alive=alive)
        if alive:
            self._seen.add(name)
            is_ending = now.kind == "done" and not self.launcher.lasting
            return replace(now, kind="running" if is_ending else now.kind, message=found[name] or now.message)
        if now.kind not in ("stopped", "failed"):
            return now
        if name not in self._seen:  # what failed before this command is tried again
            return replace(now, kind="stopped", message="")
        record = read_record(file_of(cell.path, RECORD))
        if cancelled:
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
            files.check_no_link(file_of(cell.path, ".log"))  # which only the job itself opens
            file = file_of(cell.path, RECORD)
            record = read_record(file)
            epochs = states[cell].epochs
            attempts = record.attempts_at(epochs) if name in self._seen else 0
            new = Record(launcher=self.name, attempts=attempts, epochs=epochs)
            if new != record:  # a launcher without room for the job is asked often
                append_record(file, **asdict(new))
        ids = self.launcher.submit([job_of(cell) for cell in due.values()]) if due else {}
        for name, job in ids.items():
            cell = due[name]
            append_record(file_of(cell.path, RECORD), id=job)
            self._seen.add(name)
            states[cell] = replace(states[cell], kind="waiting")

    def _locked(self) -> AbstractContextManager[None]:
        """A context in which no other command submits or cancels jobs."""
        files.make_folder(self.folder, self.strategy.root)
        return files.locked(self.folder / ".lock", "waiting for another command that submits jobs")
