"""Jobs: cells that run as processes of their own, on any machine, and the state of every cell, derived from files.

<root>/jobs/method=lsg-s0.log       output of the job's attempts
<root>/jobs/method=lsg-s0.jsonl     its record: each line has the values of a :class:`Record` that changed

``python -m lsgcli.sweeps.jobs JOB`` makes one attempt; JOB has the fields of a :class:`Job`, as JSON.
"""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from lsgcli.errors import ConfigError, RunInUseError, Stopped
from lsgcli.store.rundir import in_use, is_run, read_last_epoch, read_result
from lsgcli.sweeps.plan import Cell
from lsgcli.system import files, interpreter, schema
from lsgcli.training.signals import StopRequest, stop_on_signals

FOLDER = "jobs"  # below the root of the ablation
RECORD = ".jsonl"  # suffix of the record of a job
ATTEMPT = "\n--- "  # begins an attempt in a log, even if the previous attempt ended within a line
ATTEMPTS = 5  # of a job that is interrupted before it completes an epoch
LARGEST_STATUS = 128  # larger ones, and negative ones, are of signals
# A job continues that was stopped, or refused because another attempt is running.
CONTINUED = (Stopped.exit_code, RunInUseError.exit_code)
REFRESH = 0.1  # seconds between checks whether a run has ended or is to stop

Kind = Literal["done", "running", "waiting", "stopped", "pruned", "failed"]


def name_of(run: Path) -> str:
    """Name of the cell with this run directory, such as ``method=lsg-s0``."""
    return f"{run.parent.name}-{run.name}"


def file_of(run: Path, suffix: str) -> Path:
    """``.log``, ``.jsonl`` (the record) or ``.lock`` of the job with this run directory."""
    return run.parent.parent / FOLDER / (name_of(run) + suffix)


@dataclass(frozen=True)
class Record:
    """The record of a job. The command that submits the job writes the first values, its attempts the others.

    Attributes:
        launcher, id: which launcher it was submitted to last, and the launcher's identifier, empty until it has one.
        started: whether there was an attempt since then.
        attempts: number of attempts, including submissions that were lost before one, since the latest completed epoch and since the
            command submitted the job first.
        epochs: completed when ``attempts`` was counted last.
        status: exit status of the latest attempt; None if it is running or was lost.
    """

    launcher: str = ""
    id: str = ""
    started: bool = False
    attempts: int = 0
    epochs: int = 0
    status: int | None = None

    def attempts_at(self, epochs: int) -> int:
        """Number of attempts if so many epochs are completed now and no attempt is running."""
        if epochs != self.epochs:
            return 0
        return self.attempts + (self.id != "" and not self.started)


def read_record(file: Path) -> Record:
    """The record in a file; empty if there is none, or it is damaged."""
    values: dict[str, Any] = {}
    try:
        for line in schema.read_lines(file, Record):
            values |= line
    except ConfigError:
        return Record()
    return msgspec.convert(values, Record)


def append_record(file: Path, **values: Any) -> None:
    """Append values to a record."""
    files.append_json_line(file, values)


@dataclass(frozen=True)
class Job:
    """A cell as a command that starts its run, or continues it.

    Attributes:
        words: ``lsg train <settings> --out <path>``.
        path: run directory, absolute.
    """

    words: Sequence[str]
    path: str

    @property
    def name(self) -> str:
        """Name of the cell."""
        return name_of(Path(self.path))

    def file(self, suffix: str) -> Path:
        """A file of the job, see :func:`file_of`."""
        return file_of(Path(self.path), suffix)


def attempt(job: Job, stop: StopRequest) -> int:
    """Run the command of a job until it ends or ``stop`` is requested; returns its exit status.

    A job may have several attempts at the same time, for example because a scheduler restarts it
    while the machine that was lost is still running: the lock of the job admits one of them, the
    lock of the run directory one ``lsg train``.
    """
    path = Path(job.path)
    file = job.file(RECORD)
    files.make_folder(file.parent, file.parent.parent)
    busy = RunInUseError(f"{job.name}: another attempt is running")
    try:
        with files.locked(job.file(".lock"), busy):
            record = read_record(file)
            epochs = completed(path)
            before = record.attempts if record.epochs == epochs else 0
            append_record(file, started=True, attempts=before + 1, epochs=epochs, status=None)
            while in_use(path) and not stop:  # by the process of a killed attempt
                time.sleep(REFRESH)
            status = 0
            if read_result(path) is None:
                status = Stopped.exit_code if stop else _train(job, stop)
            append_record(file, status=status)
            return status
    except RunInUseError as error:
        return error.exit_code


def _train(job: Job, stop: StopRequest) -> int:
    # Variables of the machine that submitted the job do not apply to it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LSG_")}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with files.open_in_place(job.file(".log"), "ab") as log:
        log.write(f"{ATTEMPT}{now} on {platform.node()}: {shlex.join(job.words)}\n".encode())
        words = interpreter.command("lsgcli", *job.words[1:])
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(words, env=environment, stdin=nothing, stdout=log, stderr=log)
        while process.poll() is None and not stop:
            time.sleep(REFRESH)
        process.terminate()  # does nothing if it has ended
        return process.wait()


def may_repeat(job: Job) -> bool:
    """Whether the scheduler may start a job again."""
    record = read_record(job.file(RECORD))
    return record.attempts_at(completed(Path(job.path))) < ATTEMPTS


@dataclass(frozen=True)
class CellState:
    """State of a cell.

    Attributes:
        kind: ``stopped`` includes cells that have not started; ``pruned`` cells are not continued.
        epochs: completed epochs, of ``of``.
        accuracy: of the latest epoch, or of the finished run.
        status: exit status of the latest attempt; None if it is running or was lost.
        message: reason of a divergence, of a failure, or of waiting.
        part: of the data, which the accuracy is of.
    """

    kind: Kind
    epochs: int = 0
    of: int = 0
    accuracy: float | None = None
    status: int | None = None
    message: str = ""
    part: str = "test"

    @property
    def text(self) -> str:
        """The state in words."""
        if self.kind == "stopped" and not self.of:
            return "not started"
        if self.kind == "done" and self.message:
            return f"diverged: {self.message}"
        text: str = self.kind
        if self.of:
            text += f" after {self.epochs} of {self.of} epochs"
        if self.accuracy is not None and self.kind in ("done", "running"):
            text += f", {self.part} accuracy {self.accuracy:.4f}"
        return f"{text}: {self.message}" if self.message else text


def state(cell: Cell, alive: bool = False) -> CellState:
    """State of a cell, from its run directory and the files of its job.

    Args:
        alive: whether its job is queued or running, as far as the launcher knows.
    """
    whole = cell.config.epochs
    try:
        if (result := read_result(cell.path)) is not None:
            accuracy = result["accuracy"] if cell.test else result.get("best_accuracy")
            message = result.get("diverged", "")
            part = "test" if cell.test else "validation"
            return CellState("done", whole, whole, accuracy, message=message, part=part)
        latest = read_last_epoch(cell.path)
    except ConfigError as error:
        return CellState("failed", status=error.exit_code, message=error.message)
    record = read_record(file_of(cell.path, RECORD))
    status = record.status
    message = ""
    kind: Kind = "stopped"
    if alive:
        kind = "running" if record.started and status is None else "waiting"
    elif files.is_locked(file_of(cell.path, ".lock")) or in_use(cell.path):
        kind = "running"
    elif status is not None and status not in CONTINUED and 0 <= status <= LARGEST_STATUS:
        kind = "failed"
        message = _failure(cell.path, status)
    part = "validation" if "val_accuracy" in latest else "test"
    epochs = latest.get("epoch", -1) + 1
    planned = whole if is_run(cell.path) else 0
    accuracy = latest.get("val_accuracy", latest.get("test_accuracy"))
    return CellState(kind, epochs, planned, accuracy, status, message, part)


def completed(run: Path) -> int:
    """Number of epochs that a run has completed; 0 if its records are damaged, which `lsg train` reports."""
    try:
        return int(read_last_epoch(run).get("epoch", -1)) + 1
    except ConfigError:
        return 0


def _failure(run: Path, status: int) -> str:
    """The last error message of the latest attempt in the log of a job."""
    log = file_of(run, ".log")
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.rpartition(ATTEMPT)[2].splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"exit status {status}"])[-1]


def main() -> None:
    """Make an attempt at the job given as an argument."""
    with stop_on_signals(interrupt=False) as stop:
        raise SystemExit(attempt(Job(**json.loads(sys.argv[1])), stop))


if __name__ == "__main__":
    main()
