"""Jobs: cells that run as processes of their own, on any machine, and the state of every cell, derived from files.

<root>/jobs/method=lsg-s0.log       output of the job's attempts
<root>/jobs/method=lsg-s0.json      the latest attempt: host, process, start, exit status (null until it ends), number of attempts since
                                    the latest completed epoch

``python -m lsgcli.sweeps.jobs JOB`` makes one attempt; JOB has the fields of a :class:`Job`, as JSON.
"""

import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from lsgcli.errors import ConfigError, RunInUseError, Stopped
from lsgcli.store.rundir import in_use, is_run, read_last_epoch, read_result
from lsgcli.sweeps.plan import Cell
from lsgcli.system import files, interpreter, schema

FOLDER = "jobs"  # below the root of the ablation
ATTEMPT = "\n--- "  # begins an attempt in a log, even if the previous attempt ended within a line
ATTEMPTS = 5  # of a job that is interrupted before it completes an epoch
PAUSE = 0.5  # seconds between checks of a process that an earlier attempt left running


@dataclass(frozen=True)
class Job:
    """A cell as a command that starts its run, or continues it.

    Attributes:
        words: ``lsg train <settings> --out <path>``.
        path: run directory, absolute or relative to ``cwd``.
        cwd: working directory of the command.
    """

    words: Sequence[str]
    path: str
    cwd: str

    @property
    def run(self) -> Path:
        """The run directory."""
        return Path(self.cwd, self.path)

    @property
    def name(self) -> str:
        """Name of the cell, such as ``method=lsg-s0``."""
        return name_of(self.run)

    def file(self, suffix: str) -> Path:
        """``.log``, ``.json`` (the record of the latest attempt) or ``.lock`` of the job."""
        return file_of(self.run, suffix)


def name_of(run: Path) -> str:
    """Name of the cell with this run directory."""
    return f"{run.parent.name}-{run.name}"


def file_of(run: Path, suffix: str) -> Path:
    """A file of the job with this run directory."""
    return run.parent.parent / FOLDER / (name_of(run) + suffix)


class Attempt:
    """An attempt to run a job in this process. A signal handler or another thread may :meth:`stop` it.

    A job may have several attempts at the same time, for example because a scheduler restarts it while the machine that was lost
    is still running: the lock of the job admits one of them, the lock of the run directory one ``lsg train``.
    """

    def __init__(self, job: Job):
        self.job = job
        self.stopped = False
        self.count = 0  # attempts since the latest completed epoch, including other processes
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Ask the run to save and end."""
        self.stopped = True
        if self._process is not None:
            self._process.terminate()

    def run(self) -> int:
        """Run the command, unless the cell is finished or another attempt is running it; returns its exit status."""
        try:
            folder = self.job.file(".log").parent
            files.make_folder(folder, folder.parent)
            with files.locked(self.job.file(".lock"), RunInUseError(f"{self.job.name}: another attempt is running")):
                return self._run()
        except RunInUseError as error:
            return error.exit_code

    @property
    def may_repeat(self) -> bool:
        """Whether the scheduler may start the job again."""
        return self.count < ATTEMPTS or _completed(self.job.run) > self._epochs

    def _run(self) -> int:
        last, self._epochs = read_record(self.job.file(".json")), _completed(self.job.run)
        self.count = 1 + (last.get("attempts", 0) if last.get("epochs") == self._epochs else 0)
        self._record(None)
        while in_use(self.job.run) and not self.stopped:  # by the process of a killed attempt
            time.sleep(PAUSE)
        status = Stopped.exit_code
        if read_result(self.job.run) is not None:
            status = 0
        elif not self.stopped:
            status = self._train()
        self._record(status)
        return status

    def _train(self) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LSG_")}  # of this machine
        with files.open_in_place(self.job.file(".log"), "ab") as log:
            log.write(f"{ATTEMPT}{_now()} on {platform.node()}: {shlex.join(self.job.words)}\n".encode())
            self._process = subprocess.Popen(
                interpreter.command("lsgcli", *self.job.words[1:]),
                cwd=self.job.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            if self.stopped:  # between the check and the start
                self._process.terminate()
            return self._process.wait()

    def _record(self, status: int | None) -> None:
        counts = {"attempts": self.count, "epochs": self._epochs}
        record = {"host": platform.node(), "pid": os.getpid(), "at": _now(), "status": status, **counts}
        files.write_json(self.job.file(".json"), record)


class AttemptRecord(TypedDict):
    """Record of an attempt; ``status`` is None until it ends. A job that is submitted again has only the last two fields."""

    status: NotRequired[int | None]
    host: NotRequired[str]
    pid: NotRequired[Annotated[int, Meta(gt=1)]]  # os.kill takes numbers below 1 as groups of processes
    at: NotRequired[str]
    attempts: NotRequired[int]
    epochs: NotRequired[int]


@dataclass(frozen=True)
class CellState:
    """State of a cell.

    Attributes:
        kind: ``stopped`` includes cells that have not started; ``pruned`` cells are not continued.
        epochs: completed epochs, of ``of``.
        accuracy: of the latest epoch, or of the finished run.
        status: exit status of the latest attempt; None if it is running or was lost.
        message: reason of a divergence, of a failure, or of waiting.
        attempts: number of attempts since the latest completed epoch.
    """

    kind: Literal["done", "running", "waiting", "stopped", "pruned", "failed"]
    epochs: int = 0
    of: int = 0
    accuracy: float | None = None
    status: int | None = None
    message: str = ""
    attempts: int = 0

    @property
    def text(self) -> str:
        """The state in words."""
        progress = f"{self.epochs} of {self.of} epochs"
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.4f}"
        return {
            "done": f"diverged: {self.message}" if self.message else f"done{accuracy}",
            "running": f"running: {progress}{accuracy}" if self.of else "running",
            "waiting": ("waiting" + f" after {progress}" * bool(self.of)) + f" ({self.message})" * bool(self.message),
            "stopped": f"stopped after {progress}" if self.of else "not started",
            "pruned": f"pruned after {progress}",
            "failed": f"failed: {self.message}",
        }[self.kind]


def state(cell: Cell, alive: bool = False) -> CellState:
    """State of a cell, from its run directory and the files of its job.

    Args:
        alive: whether its job is queued or running, as far as the launcher knows.
    """
    try:
        if (result := read_result(cell.path)) is not None:
            accuracy = result["accuracy"] if cell.test else result.get("best_accuracy")
            return CellState("done", cell.config.epochs, cell.config.epochs, accuracy, message=result.get("diverged", ""))
        latest = read_last_epoch(cell.path)
    except ConfigError as error:
        return CellState("failed", status=error.exit_code, message=error.message)
    epochs, accuracy = latest.get("epoch", -1) + 1, latest.get("val_accuracy", latest.get("test_accuracy"))
    progress = epochs, cell.config.epochs if is_run(cell.path) else 0, accuracy
    record = read_record(file_of(cell.path, ".json"))
    status = record.get("status")
    if alive:
        return CellState("running" if "status" in record and status is None else "waiting", *progress)
    if files.is_locked(file_of(cell.path, ".lock")) or in_use(cell.path):
        return CellState("running", *progress)
    attempts = record.get("attempts", 0) if record.get("epochs") == epochs else 0
    if status is None or is_interruption(status):
        return CellState("stopped", *progress, status, attempts=attempts)
    return CellState("failed", *progress, status, _failure(cell.path, status))


def _completed(run: Path) -> int:
    """Number of epochs that a run has completed; 0 if its records are damaged, which `lsg train` reports."""
    try:
        return int(read_last_epoch(run).get("epoch", -1)) + 1
    except ConfigError:
        return 0


def read_record(file: Path) -> dict[str, Any]:
    """The record of a job's latest attempt; empty if there was none."""
    try:
        return dict(schema.read(file, AttemptRecord, ConfigError))
    except ConfigError:
        return {}


def is_interruption(status: int) -> bool:
    """Whether an attempt with this exit status was stopped, killed, or refused because another is running, so that the job continues."""
    return status < 0 or status > 128 or status in (Stopped.exit_code, RunInUseError.exit_code)


def _failure(run: Path, status: int) -> str:
    """The last error message of the latest attempt in the log of a job."""
    log = file_of(run, ".log")
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.rpartition(ATTEMPT)[2].splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def main() -> None:
    """Make an attempt at the job given as an argument."""
    attempt = Attempt(Job(**json.loads(sys.argv[1])))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: attempt.stop())
    raise SystemExit(attempt.run())


if __name__ == "__main__":
    main()
