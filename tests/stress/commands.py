"""Commands of lsg in forked processes, which a row may change, disturb and limit, and what must be equal in two runs."""

import functools
import io
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from lsgcli import checkpoint, files, rundir
from lsgcli.cli.app import app, main
from lsgcli.config import MAY_CHANGE
from lsgcli.training.loop import Trainer
from tests.stress import program
from tests.stress.rows import fork

LIMIT = 120  # seconds after which a command counts as hanging
STEPS, EPOCHS = 3, 3
NETWORK = ["--dataset", "image-folder", "--arch", "mlp", "-T", "2", "--size", "8", "--width-multiplier", "0.03125"]
TRAIN = ["train", *NETWORK, "--batch-size", "8", "--val-fraction", "0.2", "--epochs", str(EPOCHS), "--threads", "1"]
OPTIMIZERS = ([], ["--optimizer", "adamw", "--lr", "0.002"])
PARTS = ([], ["--accumulate", "2"])
RECIPES = (
    ["--clip-grad", "1"],
    ["--ema", "0.9", "--mixup", "0.5", "--label-smoothing", "0.1"],
    ["--method", "asgl", "--dropout", "0.3"],
)
SETTINGS = [[*optimizer, *parts, *recipe] for recipe in RECIPES for parts in PARTS for optimizer in OPTIMIZERS]
VARYING = ("seconds", "data_wait")  # of an epoch's record, from the clock


class Outcome(NamedTuple):
    """How a command ended."""

    status: int  # negative if a signal ended it
    text: str  # of stdout and stderr
    seconds: float  # of processor time


def images(folder: Path) -> Path:
    """An image folder of three colours, of which an epoch of :data:`TRAIN` makes :data:`STEPS` batches."""
    return program.images(folder, 12, 4, size=8, noise=200, colour=50)


def placed(folder: Path) -> list[str]:
    """:data:`TRAIN` on images in ``folder``, with a cache there."""
    warm()
    data = folder / "images"
    return [*TRAIN, "--data-dir", str(data if data.exists() else images(data)), "--cache-dir", str(folder / "cache")]


@functools.cache
def warm() -> None:
    """Import and compile in this process what a training needs, so that a forked one need not."""
    with tempfile.TemporaryDirectory(prefix="lsg-stress-") as folder:
        words = [*TRAIN, "--data-dir", images(Path(folder, "images")), "--cache-dir", folder, "--out", f"{folder}/run"]
        for more in ([], ["--force", "--lr", "1e38"]):  # the second diverges
            CliRunner().invoke(app, [str(word) for word in [*words, *more]])


def start(words: list[str], output: Path, change: Callable[[], object] = lambda: None) -> int:
    """Start a command in a forked process, after ``change`` there; returns its pid."""

    def work() -> None:
        signal.alarm(LIMIT)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        stream = output.open("wb", buffering=0)
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
        sys.stdout = sys.stderr = io.TextIOWrapper(stream, write_through=True)
        sys.argv = ["lsg", *map(str, words)]
        change()
        main()

    return fork(work)


def finish(pid: int, output: Path) -> Outcome:
    """Wait for a started command."""
    _, status, used = os.wait4(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), output.read_text(errors="replace"), used.ru_utime + used.ru_stime)


def lsg(words: list[str], output: Path, change: Callable[[], object] = lambda: None) -> Outcome:
    """Run a command in a forked process, after ``change`` there."""
    return finish(start(words, output, change), output)


def at(
    owner: Any,
    name: str,
    action: Callable[..., object],
    *,
    where: Callable[..., bool] = lambda *arguments, **named: True,
    skip: int = 0,
    after: bool = False,
    every: bool = False,
) -> None:
    """Replace the function ``owner.name`` by one that calls ``action`` with its arguments, before (or after) the original.

    It does so once, or ``every`` time, after ``skip`` calls whose arguments satisfy ``where``.
    """
    original, numbers = getattr(owner, name), itertools.count()

    def call(*arguments: Any, **named: Any) -> Any:
        number = next(numbers) if where(*arguments, **named) else -1
        due = number >= skip if every else number == skip
        if due and not after:
            action(*arguments, **named)
        found = original(*arguments, **named)
        if due and after:
            action(*arguments, **named)
        return found

    setattr(owner, name, call)


def on_step(number: int, action: Callable[..., object]) -> None:
    """Call ``action`` before this step of a process."""
    at(Trainer, "_step", action, skip=number)


def limit_memory(more: int) -> None:
    """Let this process allocate ``more`` bytes of address space beyond what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


def unlike(outcome: Outcome, status: int, *parts: object) -> str:
    """What is wrong with a command that must end with this status and say this, without a traceback."""
    lacking = [str(part) for part in parts if str(part) not in outcome.text]
    if outcome.status == status and not lacking and "Traceback" not in outcome.text:
        return ""
    return f"status {outcome.status}, expected {status}; lacks {lacking}: {outcome.text[-300:]}"


def bits(run: Path) -> dict[str, Any]:
    """What two runs with the same settings have in common: everything but times and paths."""
    contents = {name: checkpoint.read(run / name) for name in (rundir.LAST, rundir.BEST)}
    found: dict[str, Any] = {f"tensors of {name}": content.sha256 for name, content in contents.items()}
    for name, content in contents.items():
        settings = {key: value for key, value in content.config["settings"].items() if key not in MAY_CHANGE}
        found[f"settings of {name}"] = {**content.config, "settings": settings}
    found |= {f"state of {name}": content.state for name, content in contents.items()}
    found[rundir.METRICS] = [
        {key: value for key, value in line.items() if key not in VARYING}
        for line in files.read_json_lines(run / rundir.METRICS)
    ]
    found |= {name: (run / name).read_text() for name in (rundir.GRADIENT_FLOW, rundir.FULL_FLOW)}
    result = rundir.read_result(run) or {}
    found[rundir.RESULT] = {key: value for key, value in result.items() if key not in ("run", "checkpoint")}
    found["files"] = sorted(path.name for path in run.iterdir() if path.name != rundir.LOGS)
    return found


def difference(run: Path, expected: dict[str, Any]) -> str:
    """What differs between a run and the :func:`bits` of another one; empty if nothing does."""
    try:
        found = bits(run)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    differing = [name for name in expected if found[name] != expected[name]]
    return f"differs in {', '.join(differing)}" if differing else ""


class Whole(NamedTuple):
    """An undisturbed run."""

    words: list[str]
    bits: dict[str, Any]
    seconds: float


class Runs:
    """Runs in a folder: undisturbed ones, once for each of :data:`SETTINGS`, and others."""

    def __init__(self, folder: Path):
        self.folder, self.words, self.known = folder, placed(folder), dict[int, Whole]()
        self.run, self.output = folder / "run", folder / "output"

    def whole(self, number: int) -> Whole:
        """An undisturbed run with the settings of this number."""
        number %= len(SETTINGS)
        if number not in self.known:
            words, run, begin = [*self.words, *SETTINGS[number]], self.folder / f"whole-{number}", time.monotonic()
            outcome = lsg([*words, "--workers", "0", "--out", str(run)], self.output)
            assert outcome.status == 0, outcome.text
            self.known[number] = Whole(words, bits(run), time.monotonic() - begin)
        return self.known[number]

    def complete(
        self, whole: Whole, changes: list[Callable[[], object]], expected: tuple[int, ...], chance: random.Random
    ) -> str:
        """Run the command once with each of the changes and then without, resuming each time; returns what went wrong.

        The statuses of the former must be 0 or in ``expected``; a negative one is that of a signal.
        """
        for change in [*changes, lambda: None]:
            resumed = rundir.is_run(self.run) and chance.random() < 0.5
            words = ["train", "--resume", str(self.run)] if resumed else [*whole.words, "--out", str(self.run)]
            outcome = lsg([*words, "--workers", chance.choice("02")], self.output, change)
            if outcome.status == 0:
                return difference(self.run, whole.bits)
            if outcome.status not in expected or (outcome.status == 75 and f"--resume {self.run}" not in outcome.text):
                break
        return f"status {outcome.status}: {outcome.text[-300:]}"

    def clear(self) -> None:
        """Remove the disturbed run."""
        shutil.rmtree(self.run, ignore_errors=True)
