"""Rows of trainings that must not start: with files of settings that are none, with other settings, in a directory that is used, in one that cannot be written."""

import functools
import itertools
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.stress.data import drop_capabilities
from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, refused, row, small_disk
from benchmarks.stress.runs import EPOCHS, STEPS, Runs, difference, on_step
from lsgcli.cli.options import choices_of
from lsgcli.config.resolve import resolve
from lsgcli.config.run import FIELDS, MAY_CHANGE, PATHS, base_type, check, option_name, option_words
from lsgcli.errors import ConfigError, RunInUseError
from lsgcli.runs.checks import check_same
from lsgcli.store import rundir


def stopped(runs: Runs) -> Path:
    """Start the run again, and stop it in the middle of its second epoch."""
    one = runs.train(runs.whole(0).words, lambda: on_step(STEPS + 1, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    assert one.status == 75, one.err
    return runs.run


# Row 65

SECONDS, LINES = 1.0, 20  # processor time and lines of an error
TOML: dict[str, Callable[[int], str]] = {  # files of about so many characters
    "an integer in hexadecimal digits": lambda size: f"lr = 0x{'f' * size}",
    "an integer in decimal digits": lambda size: f"lr = {'9' * size}",
    "a key of many parts": lambda size: f"{'a.' * (size // 2)}a = 1",
    "tables of many parts": lambda size: "".join(f"[{'a.' * 40}a{n}]\n" for n in range(size // 90)),
    "keys of many parts": lambda size: "".join(f"a{n}{'.b' * 50} = 1\n" for n in range(size // 110)),
    "unknown keys": lambda size: "".join(f"key{n} = 1\n" for n in range(size // 12)),
    "a setting in many tables": lambda size: "".join(f"[t{n}]\nlr = 1\n" for n in range(size // 14)),
    "lists inside each other": lambda size: f"lr = {'[' * size}",
    "a long text": lambda size: f"lr = '{'x' * size}'",
    "a long unknown key": lambda size: f"{'x' * size} = 1",
    "JSON of unknown keys": lambda size: json.dumps({"settings": {f"key{n}": 1 for n in range(size // 12)}}),
}


@row(
    65,
    fault="a file of settings with integers of many digits, keys of many parts, many unknown keys",
    promise="exit status 2 within a second, in at most 20 lines",
    peers="Python's tomllib takes quadratic time for a key of many parts",
    quick=len(TOML),
    full=20 * len(TOML),
)
def hostile_settings(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Files of each kind, of 4,000 to 250,000 characters."""
    for kind, make in itertools.islice(itertools.cycle(TOML.items()), count):
        (folder / "settings.toml").write_text(make(chance.randint(4_000, 250_000)))
        begin, problem = time.process_time(), "not noticed"
        try:
            resolve({}, file=folder / "settings.toml", environment={})
        except ConfigError as error:
            lines = error.on_command_line.splitlines()
            seconds = time.process_time() - begin
            good = "settings.toml" in lines[0] and len(lines) <= LINES and max(map(len, lines)) < 2000 and seconds < SECONDS
            problem = "" if good else f"{seconds:.1f} s, {len(lines)} lines: {lines[0]:.300}"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        yield Case(kind, problem)


# Row 14


def other_value(name: str, value: Any, run: Path) -> Any:
    if base_type(name) is bool:
        return not value
    if FIELDS[name].metadata["path"]:
        return str(run / rundir.LAST)
    numbers = (value + 1, value / 2, 0.5, 0.25) if isinstance(value, int | float) else (2, 8, 0.5, "32x32", "1/5")
    candidates = choices_of(name) or [base_type(name)(n) for n in numbers if isinstance(n, str) == (base_type(name) is str)]
    return next(candidate for candidate in candidates if candidate != value and not check({name: candidate}))


@row(
    14,
    fault="settings differ on resume, on the command line or in config.json",
    promise="exit status 2 (6 for the repeated command of another run); the message lists each difference; nothing is written",
    quick=6,
    full=1000,
)
def other_settings(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A stopped run is resumed with another value of each setting that may matter (with --quick, of a few): as an option of --resume; as the
    configuration of the repeated command; and with config.json edited. Then with three other values at once."""
    runs = Runs(folder)
    run = stopped(runs)
    config, facts = rundir.read_config(run), rundir.read_facts(run)
    fixed = [name for name in FIELDS if name not in MAY_CHANGE]
    values = {name: other_value(name, getattr(config, name), run) for name in fixed}
    values["epochs"] = EPOCHS - 1
    chosen = chance.sample(fixed, min(count, len(fixed)))
    several = [tuple(chance.sample(fixed, 3)) for _ in range(math.ceil(len(chosen) / 4))]
    content = {path.name: path.read_bytes() for path in run.iterdir()}
    for names in [*((name,) for name in chosen), *several]:
        options = [option_name(name) for name in names]
        words = [word for name in names for word in option_words(name, values[name])]
        resumed = Command(["train", "--resume", run, *words], folder).run()
        yield Case("option of --resume", resumed.ended(2, *options))
        changed = config.replace(**{name: values[name] for name in names})
        parts = [(option_name(name), repr(getattr(config, name))) for name in names]
        yield refused("repeated command", lambda c=changed: check_same(run, c), RunInUseError, *itertools.chain(*parts))
        if edited := [name for name in names if name not in PATHS | {"epochs", "precision"}]:
            settings = {**facts["settings"], **{name: values[name] for name in edited}}
            (run / rundir.CONFIG).write_text(json.dumps({**facts, "settings": settings}))
            resumed = Command(["train", "--resume", run], folder).run()
            yield Case("config.json", resumed.ended(2, *(option_name(name) for name in edited)))
            (run / rundir.CONFIG).write_bytes(content[rundir.CONFIG])
        now = {path.name: path.read_bytes() for path in run.iterdir()}
        yield Case("files of the run", "" if now == content else f"{names}: files of the run changed")


# Rows 16 and 17


@row(
    16,
    fault="two processes, one run directory",
    promise="one trains, bit-identical to an undisturbed run; the other ends with status 6",
    quick=4,
    full=50,
)
def races(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Two processes begin within 20 ms: with the same new directory, with that of a stopped run by --resume or by its own command, or with
    --force. The one that trains waits at its first step until the other has ended."""
    runs, go = Runs(folder), folder / "go"
    kinds = ("new", "--resume", "same command", "--force")
    for case in range(count):
        kind, whole = kinds[case % len(kinds)], runs.whole(0)
        runs.clear()
        if kind != "new":
            stopped(runs)
        words = ["train", "--resume", runs.run] if kind == "--resume" else [*whole.words, "--out", runs.run]
        words += ["--force"] if kind == "--force" else []
        go.unlink(missing_ok=True)

        def until(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not condition() and time.monotonic() < deadline:
                time.sleep(0.01)

        def begin(delay: float) -> None:
            on_step(0, lambda _: until(go.exists))
            time.sleep(delay)

        befores = [functools.partial(begin, chance.uniform(0, 0.02)) for _ in range(2)]
        pair = [Command(words, folder, before=one, log=f"{number}-").start() for number, one in enumerate(befores)]
        until(lambda pair=pair: any(one.poll() is not None for one in pair))
        go.touch()
        one, other = sorted(pair, key=Command.wait)
        yield Case(kind, one.ended(0) or other.ended(6, runs.run) or difference(runs.run, whole.bits))


@row(
    17,
    fault="a run directory that cannot be created or written, or a full disk, at the start",
    promise="exit status 7 before the first step, within 2 s of processor time; the message names the path; nothing is left",
    quick=1,
    full=5,
)
def unwritable(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Without the rights of root, where the row runs as root: a new run in an unwritable folder and below one, an unwritable run by
    --resume and by its own command, a folder that is a file, a name that is too long, a loop of links, /proc; and a full file system of
    1 MiB (where one can be mounted), with and without free inodes."""
    runs = Runs(folder)
    whole, run = runs.whole(0), stopped(runs)
    locked, disk = folder / "locked", folder / "disk"
    locked.mkdir()
    (folder / "file").touch()
    (folder / "loop").symlink_to(folder / "loop")
    shutil.copytree(run, locked / "run")
    for path in (*locked.rglob("*"), locked):
        path.chmod(0o555)
    paths = {
        "unwritable folder": locked / "new",
        "below an unwritable folder": locked / "a" / "b" / "new",
        "file": folder / "file" / "new",
        "long name": folder / ("x" * 300),
        "loop of links": folder / "loop" / "new",
        "/proc": Path("/proc/new"),
        "unwritable run": locked / "run",
    }

    def change() -> None:
        on_step(0, lambda _: os._exit(99))
        drop_capabilities()

    def attempt(kind: str, path: Path, words: list[Any], inside: Path) -> Case:
        before = sorted(inside.rglob("*"))
        one = Command(words, folder, before=change).run()
        problem = one.ended(7, path) or (f"took {one.seconds:.1f} s" if one.seconds > 2 else "")
        return Case(kind, problem or ("" if sorted(inside.rglob("*")) == before else "left files"))

    for _ in range(count):
        for kind, path in paths.items():
            yield attempt(kind, path, [*whole.words, "--out", path], locked)
        yield attempt("unwritable run", locked / "run", ["train", "--resume", locked / "run"], locked)
        for kind, option in (("full disk", "size=1m"), ("no free inodes", "nr_inodes=2")):
            with small_disk(disk, option) as mounted:
                if not mounted:
                    continue
                with (disk / "large").open("wb") as stream:
                    if kind == "full disk":
                        os.posix_fallocate(stream.fileno(), 0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize)
                yield attempt(kind, disk / "new", [*whole.words, "--out", disk / "new"], disk)
