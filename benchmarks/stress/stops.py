"""A row of stops: signals, and a reader that leaves, while a command writes, computes or waits."""

import contextlib
import functools
import hashlib
import importlib.util
import os
import random
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.stress.program import TINY, Command, warm
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import at
from lsgcli.runs import run
from tests import networks
from tests.tiny import images
from tests.unit.data.conftest import aedat2_bytes, blob

SECONDS = 2.0  # from the stop to the end of the command and its processes
LONGEST = 40.0  # of a command until it is where it shall be stopped
STATUSES = {"SIGTERM": -int(signal.SIGTERM), "SIGINT": 130, "closed stdout": 141}
FLAG = {"SIGTERM": 75, "SIGINT": 75, "closed stdout": 141}  # of commands that continue when they are repeated
SIGNALS = {"SIGTERM": STATUSES["SIGTERM"], "SIGINT": 130}
STREAM = {"SIGTERM": 0, "SIGINT": 0, "closed stdout": 141}


Ready = Callable[[Path, int | None], bool]  # of the folder with stdout and stderr, or the pipe of stdout


def after(seconds: float) -> Ready:
    """Whether the command has run for some time."""
    return lambda place, pipe: (
        time.time() > (place / "stderr").stat().st_ctime + seconds if (place / "stderr").exists() else False
    )


def wrote(place: Path, pipe: int | None) -> bool:
    if pipe is not None:
        return bool(select.select([pipe], [], [], 0)[0])
    return (place / "stdout").exists() and (place / "stdout").stat().st_size > 0


def says(text: str) -> Ready:
    return lambda place, pipe: (place / "stderr").exists() and text in (place / "stderr").read_text()


class Loop(NamedTuple):
    """A command in a loop.

    Attributes:
        words: of the command.
        statuses: stop -> exit status; without ``closed stdout``, the command writes only at its end.
        ready: whether it has come to its loop.
        stdin: whether stdin is a pipe whose writer sends nothing; default: an empty file.
        before: called in its process.
    """

    words: list[str]
    statuses: dict[str, int] = SIGNALS
    ready: Ready = after(0.5)
    stdin: bool = False
    before: Callable[[], object] = lambda: None


def loops(folder: Path, stack: contextlib.ExitStack) -> dict[str, Loop]:
    """Commands in each of their loops, with data for which they last longer than until the stop."""
    train = warm(folder, [*TINY[: TINY.index("--epochs")], "--epochs", "1", *TINY[TINY.index("--epochs") + 2 :]])
    net, many = str(folder / "warm" / "best.safetensors"), str(images(folder / "many", count=600, test=1500))
    events = str(networks.saved(folder / "events.safetensors", slicing="time", medians=(1, 40), backend="reference"))
    (folder / "gap.aedat").write_bytes(aedat2_bytes([(1, 1, 0, 1), (1, 1, 50_000_000, 1)]))
    (folder / "few.aedat").write_bytes(aedat2_bytes(blob(0, count=40)))
    os.mkfifo(folder / "fifo")
    recordings, contents = folder / "recordings", [aedat2_bytes(blob(seed, count=400)) for seed in range(7)]
    for name in "ab":
        (recordings / name).mkdir(parents=True)
        for number in range(8000):
            (recordings / name / f"{number}.aedat").write_bytes(contents[number % 7])
    sealed = folder / "sealed"
    sealed.mkdir()
    with open(sealed / "large.aedat", "wb") as sparse:
        sparse.truncate(1 << 36)
    (sealed / "SHA256SUMS").write_text(f"{hashlib.sha256().hexdigest()}  large.aedat\n")
    endless = [*train, "--epochs", "9999"]
    stopping = dict.fromkeys(SIGNALS, 75)
    slow = functools.partial(at, run, "prepare", lambda *_, **__: time.sleep(60))
    found = {
        "predict, files": Loop(["predict", net, f"{many}/test", "--batch-size", "1"], STATUSES, wrote),
        "predict, a list that does not end": Loop(["predict", net, "-"], stdin=True),
        "predict --stream, slices of one chunk": Loop(
            ["predict", events, str(folder / "gap.aedat"), "--stream"], STREAM, wrote
        ),
        "predict --stream, stdin": Loop(["predict", events, "-", "--stream"], STREAM, stdin=True),
        "predict --stream, a FIFO": Loop(["predict", events, str(folder / "fifo"), "--stream"], STREAM),
        "predict --stream, a file": Loop(
            ["predict", events, str(folder / "few.aedat"), "--stream", "--idle", "60"], STREAM, wrote
        ),
        "eval": Loop(["eval", net, "--data-dir", many, "--batch-size", "1"]),
        "inspect-gradients": Loop(
            ["inspect-gradients", net, "--data-dir", str(folder / "data"), "--batches", "9999", "--batch-size", "1"]
        ),
        "export --verify": Loop(["export", net, "-o", "net.nir", "--verify", "9999", "--data-dir", many]),
        "data info": Loop(["data", "info", str(recordings)]),
        "data verify": Loop(["data", "verify", str(sealed)]),
        "data show": Loop(["data", "show", str(recordings), "-o", "sheet.png", "--samples", "4000"]),
        "data prepare": Loop(
            ["data", "prepare", "--dataset", "event-folder", "--data-dir", str(recordings), "--split", "stratified"]
        ),
        "train": Loop([*endless, "--out", "run"], stopping, says("epoch")),
        "train --json": Loop([*endless, "--out", "run", "--json"], FLAG, wrote),
        "train, data are prepared": Loop([*endless, "--out", "run"], stopping, before=slow),
        "ablate": Loop(
            [*["ablate"], *endless[1:], "--grid", "method=none,lsg", "--seeds", "0-4", "--out", "grid"], stopping, says("epoch")
        ),
    }
    if importlib.util.find_spec("optuna"):
        found["tune"] = Loop(
            ["tune", *endless[1:], "--search", "lr=0.01:0.1", "--trials", "99", "--out", "study"], stopping, says("epoch")
        )
    return found


@row(
    56,
    fault="a stop while a command's loop writes, computes or waits",
    promise="it ends within 2 s, with its processes: SIGTERM as by default or 75, SIGINT 130 or 75, a closed stdout 141; a stream 0",
    quick=8,
    full=132,
)
def stops(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """SIGTERM, SIGINT, and for commands that write as they go a stdout that is closed, for each loop of each command: files, a list, a
    stream (of a pipe, a FIFO, a growing file, and of millions of slices at once), evaluation, gradient flow, verification of an export,
    `data info`, `verify`, `show`, `prepare`, training, its data, ablation and tuning. The
    command has come to its loop when it is stopped, at a random moment."""
    with contextlib.ExitStack() as stack:
        every = [(name, one, stop) for name, one in loops(folder, stack).items() for stop in one.statuses]
        order = [every[k % len(every)] for k in chance.sample(range(max(count, len(every))), count)]
        for number, (name, one, stop) in enumerate(order):
            place = folder / f"case {number}"
            yield Case(f"{name}: {stop}", _stopped(one, stop, place, chance.uniform(0, 0.3)))
            shutil.rmtree(place, ignore_errors=True)


def _stopped(one: Loop, stop: str, place: Path, delay: float) -> str:
    """The problem of a command that is stopped some time after it has come to its loop."""
    place.mkdir()
    silent, lines = os.pipe(), os.pipe()
    closing = stop == "closed stdout"

    def before() -> None:
        os.setsid()
        for end in (silent[1], *lines):
            os.close(end)
        one.before()

    stdin, stdout = silent[0] if one.stdin else None, f"/dev/fd/{lines[1]}" if closing else None
    command = Command(one.words, place, before=before, stdin=stdin, stdout=stdout).start()
    os.close(lines[1])
    started = time.monotonic()
    try:
        while not one.ready(place, lines[0] if closing else None):
            if command.poll() is not None or time.monotonic() - started > LONGEST:
                return f"status {command.status} before its loop: {command.err[-300:]}"
            time.sleep(0.02)
        time.sleep(delay)
        if command.poll() is not None:
            return f"ended before the stop, with status {command.status}: {command.err[-300:]}"
        begin = time.monotonic()
        if closing:
            os.close(lines[0])
        else:
            os.kill(command.pid, getattr(signal, stop))
        status, seconds = command.wait(LONGEST), time.monotonic() - begin
        if status != one.statuses[stop] or seconds > SECONDS:
            return f"status {status} after {seconds:.1f} s, expected {one.statuses[stop]}: {command.err[-300:]}"
        if command.err.count("Traceback"):
            return command.err[-300:]
        while (alive := _alive(command.pid)) and time.monotonic() < begin + SECONDS:
            time.sleep(0.02)
        return "its processes run" if alive else ""
    finally:
        for end in (*silent, *([] if closing and command.status is not None else lines[:1])):
            with contextlib.suppress(OSError):
                os.close(end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
