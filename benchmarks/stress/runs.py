"""Trainings to compare to the bit: undisturbed ones, and others that a row changes in their process."""

import itertools
import random
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.stress.program import Command, warm
from lsgcli.config.run import MAY_CHANGE
from lsgcli.store import checkpoint, rundir
from lsgcli.system import schema
from lsgcli.training.loop import Trainer

STEPS, EPOCHS = 3, 3
TRAIN = shlex.split(
    "--dataset image-folder --arch mlp -T 2 --size 8 --width-multiplier 0.03125 --batch-size 8 --val-fraction 0.2 "
    f"--epochs {EPOCHS} --threads 1"
)
OPTIMIZERS = ([], ["--optimizer", "adamw", "--lr", "0.002"])
PARTS = ([], ["--accumulate", "2"])
RECIPES = (
    ["--clip-grad", "1", "--convolution", "spikes"],
    ["--ema", "0.9", "--mixup", "0.5", "--label-smoothing", "0.1", "--convolution", "auto"],
    ["--method", "asgl", "--dropout", "0.3"],
)
SETTINGS = [[*optimizer, *parts, *recipe] for recipe in RECIPES for parts in PARTS for optimizer in OPTIMIZERS]
VARYING = ("seconds", "data_wait")  # of an epoch's record, from the clock


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


def on_step(number: int, action: Callable[[Trainer], object]) -> None:
    at(Trainer, "_step", lambda trainer, *_, **__: action(trainer), skip=number)


def bits(run: Path) -> dict[str, Any]:
    """What two runs with the same settings have in common: everything but times and paths."""
    contents = {name: checkpoint.read(run / name) for name in (rundir.LAST, rundir.BEST)}
    found: dict[str, Any] = {f"tensors of {name}": content.sha256 for name, content in contents.items()}
    for name, content in contents.items():
        settings = {key: value for key, value in content.config["settings"].items() if key not in MAY_CHANGE}
        found[f"settings of {name}"] = {**content.config, "settings": settings}
    found |= {f"state of {name}": content.state for name, content in contents.items()}
    found[rundir.METRICS] = [
        {key: value for key, value in line.items() if key not in VARYING} for line in schema.read_lines(run / rundir.METRICS)
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
    """Runs in a folder: undisturbed ones, once for each of :data:`SETTINGS`, and others, one at a time."""

    def __init__(self, folder: Path):
        self.folder, self.run, self.known = folder, folder / "run", dict[int, Whole]()
        # Three colours that are not easy to tell apart; an epoch makes STEPS batches of them.
        self.words = warm(folder, TRAIN, count=12, test=4, size=8, noise=200, colour=50)

    def whole(self, number: int) -> Whole:
        """An undisturbed run with the settings of this number."""
        number %= len(SETTINGS)
        if number not in self.known:
            words, run, begin = [*self.words, *SETTINGS[number]], self.folder / f"whole-{number}", time.monotonic()
            one = Command([*words, "--workers", "0", "--out", run], self.folder).run()
            assert one.status == 0, one.err
            self.known[number] = Whole(words, bits(run), time.monotonic() - begin)
        return self.known[number]

    def train(self, words: list[str], before: Callable[[], object] = lambda: None) -> Command:
        """Start a run with these words from scratch, after ``before`` in its process."""
        self.clear()
        return Command([*words, "--out", self.run], self.folder, before=before).run()

    def complete(
        self, whole: Whole, changes: list[Callable[[], object]], expected: tuple[int, ...], chance: random.Random
    ) -> str:
        """Run the command once with each of the changes and then without, resuming each time; returns what went wrong.

        The statuses of the former must be 0 or in ``expected``; a negative one is that of a signal. A stop says how to continue: with
        --resume, or with the same command while the data are prepared.
        """
        for change in [*changes, lambda: None]:
            resumed = rundir.is_run(self.run) and chance.random() < 0.5
            words = ["train", "--resume", self.run] if resumed else [*whole.words, "--out", self.run]
            one = Command([*words, "--workers", chance.choice("02")], self.folder, before=change).run()
            if one.status == 0:
                return difference(self.run, whole.bits)
            says_how = f"--resume {self.run}" in one.err or "Repeat the command" in one.err
            if one.status not in expected or (one.status == 75 and not says_how):
                break
        return f"status {one.status}: {one.err[-300:]}"

    def clear(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
