"""Rows of interrupted trainings, whose results must be those of an undisturbed one to the bit."""

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.stress.launchers import epochs
from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import EPOCHS, STEPS, Runs, at, difference
from lsgcli.errors import CheckpointError
from lsgcli.store import checkpoint, rundir
from lsgcli.store.checkpoint import State
from lsgcli.system import files, schema
from lsgcli.training import loop
from lsgcli.training.loop import Trainer

RESUME = (
    "composer resumes equal at atol 0 at 6 points, in one process, never killed; Lightning: restart parity 1e-8, SIGTERM sets a flag, "
    "results never compared; torchtune: 1e-4"
)


def batch(index: int) -> Callable[..., bool]:
    """Whether the arguments of ``Trainer._step`` are those of this batch of an epoch."""
    return lambda trainer, batch, *arguments, **named: batch.index == index


def always(*arguments: Any, **named: Any) -> bool:
    return True


# Kind of moment -> the function in whose first or a later call a process is interrupted.
MOMENTS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "first step of an epoch": (Trainer, "_step", batch(0)),
    "middle of an epoch": (Trainer, "_step", batch(1)),
    "last batch": (Trainer, "_step", batch(STEPS - 1)),
    "end of an epoch": (State, "next_epoch", always),
    "evaluation": (loop, "evaluate", always),
    "records": (files, "append_json_line", always),
    "save": (checkpoint, "save_file", always),
    "rename": (os, "replace", always),
}
ANY = "random time"
PATIENCE = 10  # seconds for leaving at once, on a busy machine


def interruption(kind: str, number: int, seconds: float, chance: random.Random) -> Callable[[], object]:
    """A change that sends a signal to the process: at a moment of this kind, or within so many seconds."""
    if kind == ANY:
        delay = chance.uniform(0, seconds)

        def later() -> None:
            timer = threading.Timer(delay, os.kill, (os.getpid(), number))
            timer.daemon = True
            timer.start()

        return later
    owner, name, where = MOMENTS[kind]
    skip, after = chance.choice((0, 0, 1, 2)), chance.random() < 0.5
    return lambda: at(owner, name, lambda *_, **__: os.kill(os.getpid(), number), where=where, skip=skip, after=after)


def interrupted(count: int, chance: random.Random, runs: Runs, number: int, expected: tuple[int, ...]) -> Iterator[Case]:
    """Runs with one to four interruptions; a case has the kind of its first one."""
    kinds = [*MOMENTS, ANY]
    for case in range(count):
        whole, first = runs.whole(case), kinds[case % len(kinds)]
        chosen = [first, *chance.choices(kinds, k=chance.randrange(4))]
        changes = [interruption(kind, number, whole.seconds, chance) for kind in chosen]
        runs.clear()
        problem = runs.complete(whole, changes, expected, chance)
        yield Case(first, problem and f"{' '.join(whole.words[-6:])}, {chosen}: {problem}")


# Rows 4, 5 and 6


@row(4, fault="SIGTERM, then resume", promise="status 75; a bitwise equal result", peers=RESUME, quick=9, full=216)
def terminated(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg train` gets SIGTERM 1 to 4 times (before or after the first, a middle, the last step of an epoch, its end, in evaluation, between
    records, in a save, before or after the rename, at a random time), and is resumed by --resume or by its own command, with 0 or 2
    workers. SGD and AdamW, accumulation, clipping, EMA with mixup, stochastic neurons with dropout. Compared: checkpoints, metrics,
    gradient flow, result."""
    yield from interrupted(count, chance, Runs(folder), signal.SIGTERM, (75, -signal.SIGTERM))


@row(
    5,
    fault="SIGINT, SIGUSR1, SIGHUP, a second signal",
    promise="the first stops after at most 1 batch and 1 save; SIGINT after it leaves at once; the result is bitwise equal",
    quick=6,
    full=54,
)
def signalled(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """The first signal arrives before or after a random step. In a third of the runs no second signal follows; in a third SIGINT
    follows, at once or during the save, and ends the process with status 130, leaving the last checkpoint valid; in the others SIGTERM
    follows and changes nothing. The same command must then complete the run."""
    runs, first = Runs(folder), (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    position, second = folder / "position", (None, signal.SIGINT, signal.SIGTERM)
    for case in range(count):
        whole, numbers = runs.whole(case), (first[case // 3 % 3], second[case % 3])
        index, skip, after = chance.randrange(STEPS), chance.randrange(EPOCHS - 1), chance.random() < 0.5
        in_save, after_save = chance.random() < 0.5, chance.random() < 0.5

        def change(numbers=numbers, index=index, skip=skip, after=after, in_save=in_save, after_save=after_save) -> None:
            def again(*arguments: Any, **named: Any) -> None:
                position.with_suffix(".time").write_text(str(time.monotonic()))
                os.kill(os.getpid(), numbers[1])

            def send(trainer: Trainer, batch: Any, *arguments: Any, **named: Any) -> None:
                position.write_text(str(trainer.state.epoch * STEPS + batch.index))
                os.kill(os.getpid(), numbers[0])
                if numbers[1] and in_save:
                    at(checkpoint, "save_file", again, after=after_save)
                elif numbers[1]:
                    again()

            at(Trainer, "_step", send, where=batch(index), skip=skip, after=after)

        one = runs.train(whole.words, change)
        problem = _left(one.status, 130 if numbers[1] == signal.SIGINT else 75, runs.run, position)
        kind = " then ".join(signal.Signals(number).name for number in numbers if number)
        yield Case(kind, f"{problem}: {one.err[-300:]}" if problem else runs.complete(whole, [], (), chance))


def _left(status: int | None, expected: int, run: Path, position: Path) -> str:
    """What is wrong with a run after a first signal at a position, in steps, and perhaps a second one."""
    if status != expected:
        return f"status {status}, expected {expected}"
    second = position.with_suffix(".time")
    if second.exists():
        waited = time.monotonic() - float(second.read_text())
        second.unlink()
        if waited > PATIENCE:
            return f"{waited:.1f} s after the second signal"
    if not (run / rundir.LAST).exists():
        return "nothing was saved" if status == 75 else ""
    try:
        state = checkpoint.read(run / rundir.LAST).state
    except CheckpointError as error:
        return f"broken: {error}"
    steps = state["epoch"] * STEPS + state["step"] - int(position.read_text())
    return f"{steps} steps after the signal" if status == 75 and not 0 <= steps <= 1 else ""


@row(6, fault="kill -9, then resume", promise="a bitwise equal result", peers=RESUME, quick=9, full=63)
def killed(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """As row 4, with SIGKILL. For every ninth run, also an ablation of two runs by two processes, both of which are killed at a random time
    and started again until one has finished all runs; its table must be that of an undisturbed one."""
    runs = Runs(folder)
    yield from interrupted(count, chance, runs, signal.SIGKILL, (-signal.SIGKILL,))
    for _ in range(count // 9):
        yield Case("ablation of two processes", killed_ablation(chance, runs))


def killed_ablation(chance: random.Random, runs: Runs) -> str:
    """Kill two processes that share an ablation, again and again; returns what differs in the end."""
    words = ["ablate", *runs.words[1:], "--workers", "0", "--grid", "method=none,lsg", "--seeds", "0", "-q", "--json"]
    begin, out = time.monotonic(), runs.folder / "ablation"
    whole = Command([*words, "--out", "whole-ablation"], runs.folder).run()
    seconds = time.monotonic() - begin
    expected = whole.out.replace("whole-ablation", "ablation")
    shutil.rmtree(out, ignore_errors=True)
    words += ["--out", "ablation"]
    for _ in range(20):
        pair = [Command(words, runs.folder, log=f"{number}-").start() for number in range(2)]
        time.sleep(chance.uniform(0, seconds))
        for one in pair:
            os.kill(one.pid, signal.SIGKILL)
        if [one.wait() for one in pair] != [-signal.SIGKILL] * 2:
            break  # one has finished
    again = Command(words, runs.folder).run()
    if again.status or again.out != expected:
        return f"status {again.status}: {again.out[-300:]} {again.err[-300:]}"
    return "" if epochs(out) == [[*range(EPOCHS)]] * 2 else f"epochs {epochs(out)}"


# Rows 7 and 28


@row(7, fault="other workers, logs or cadence of evaluation", promise="the same bits", peers=RESUME, quick=1, full=6)
def variants(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Runs in eight variants: 1 or 4 workers; JSON events and details; a logger; data and cache in other folders; activation
    checkpointing; with an evaluation after each step; stopped, then resumed in all these variants at once."""
    runs = Runs(folder)
    shutil.copytree(folder / "data", folder / "elsewhere")
    moved = ["--data-dir", str(folder / "elsewhere"), "--cache-dir", str(folder / "other")]
    words = {
        "1 worker": ["--workers", "1"],
        "4 workers": ["--workers", "4"],
        "JSON events and details": ["--json", "-v"],
        "logger": ["--log", "csv"],
        "other folders": moved,
        "activation checkpointing": ["--checkpoint-activations", "layers"],
        "evaluation after each step": [],
    }

    def evaluate_often() -> None:
        def evaluate(trainer: Trainer, *arguments: Any, **named: Any) -> None:
            trainer._evaluate(trainer.eval_split, trainer.network)

        at(Trainer, "_step", evaluate, after=True, every=True)

    for case in range(count):
        whole = runs.whole(case)
        for kind, more in words.items():
            one = runs.train([*whole.words, *more], evaluate_often if kind.startswith("evaluation") else lambda: None)
            yield Case(kind, one.ended(0) or difference(runs.run, whole.bits))
        runs.train(whole.words, interruption("middle of an epoch", signal.SIGTERM, 0, chance))
        others = ["--workers", "3", "--json", "-v", "--log", "csv", *moved, "--checkpoint-activations", "layers"]
        one = Command(["train", "--resume", runs.run, *others], folder, before=evaluate_often).run()
        yield Case("resumed as another", one.ended(0) or difference(runs.run, whole.bits))


@row(
    28,
    fault="a torn line of metrics.jsonl or gradient-flow.jsonl",
    promise="cut to the epochs of the checkpoint; no line is lost or repeated",
    quick=6,
    full=100,
)
def torn_lines(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A process is killed (SIGKILL) when a random part of a line, nothing or all of it, has been appended after a random epoch. The file
    must be readable then, and after the run was completed equal to that of an undisturbed run."""
    runs = Runs(folder)
    for case in range(count):
        whole, name = runs.whole(case), (rundir.METRICS, rundir.GRADIENT_FLOW)[case % 2]
        skip, share = chance.randrange(EPOCHS), chance.choice((0.0, 1.0, *(chance.random() for _ in range(4))))

        def tear(target: Path, value: Any, share: float = share) -> None:
            line = json.dumps(files.finite(value)) + "\n"
            with target.open("a") as stream:
                stream.write(line[: round(share * len(line))])
            os.kill(os.getpid(), signal.SIGKILL)

        def change(tear=tear, name=name, skip=skip) -> None:
            at(files, "append_json_line", tear, where=lambda target, value: target.name == name, skip=skip)

        one = runs.train(whole.words, change)
        kind, problem = f"{name}, {'part of' if 0 < share < 1 else 'none of' if not share else 'all of'} a line", ""
        if one.status != -signal.SIGKILL:
            problem = f"status {one.status}: {one.err[-300:]}"
        elif [line["epoch"] for line in schema.read_lines(runs.run / name)] != [*range(skip + (share == 1))]:
            problem = "lines before the torn one are not readable"
        yield Case(kind, problem or runs.complete(whole, [], (), chance))
