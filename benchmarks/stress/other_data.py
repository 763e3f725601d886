"""The row of other data under the settings of earlier runs."""

import functools
import itertools
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.stress.program import Command, warm
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import on_step
from lsgcli.store.rundir import read_facts
from tests.tiny import images

OUT = ["--out", "out"]


def bitmaps(folder: Path, seed: int) -> Path:
    """Images whose files have the same names and sizes for every seed, but other contents."""
    chance = np.random.default_rng(seed)
    for path in images(folder, count=4, test=2, size=8).rglob("*.png"):
        Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path.with_suffix(".bmp"))
        path.unlink()
    return folder


def more(at: Path) -> Path:
    """The data A and another file."""
    shutil.copytree(at / "A", at / "more")
    shutil.copyfile(at / "A" / "train" / "red" / "00.bmp", at / "more" / "train" / "red" / "99.bmp")
    return at / "more"


def in_place(at: Path) -> Path:
    """Other contents in the files of A."""
    for path in (at / "A").rglob("*.bmp"):
        path.write_bytes((at / "B" / path.relative_to(at / "A")).read_bytes())
    return at / "A"


def gone(at: Path) -> Path:
    shutil.rmtree(at / "A")
    return at / "A"


# What happens to the data of the first command: the folder for the second one, and whether its data are the same.
CHANGES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "other contents": (lambda at: at / "B", False),
    "another file": (more, False),
    "changed in place": (in_place, False),
    "moved": (lambda at: (at / "A").rename(at / "moved"), True),
    "copied": (lambda at: Path(shutil.copytree(at / "A", at / "copied", copy_function=shutil.copyfile)), True),
    "gone": (gone, True),
}


def runs(at: Path) -> dict[Path, str]:
    """When each run began, by its directory."""
    return {path.parent: str(read_facts(path.parent)["started"]) for path in at.rglob("config.json")}


def repeated(words: list[Any], at: Path, kind: str) -> str:
    """The problem of a command of several runs that is given again, with the data as they are then.

    With --out, it refuses other data and names a run; without, it uses a folder of its own. The same data are no reason to train again.
    """
    change, is_same = CHANGES[kind]
    first = Command([*words, "--data-dir", at / "A"], at).run()
    before, folder = runs(at), change(at)
    second = Command([*words, "--data-dir", folder], at, log="second-").run()
    if problem := first.ended(0):
        return problem
    if not is_same and OUT[0] in words:
        return second.ended(6, folder, min(before).relative_to(at).parts[0]) or ("prints a result" if second.out else "")
    if problem := second.ended(0):
        return problem
    new = runs(at).keys() - before.keys()
    if is_same:
        return "trained again" if new or runs(at) != before else ""
    elsewhere = [path for path in new if read_facts(path)["data_folder"] != str(folder)]
    return "" if new and not elsewhere else f"new runs {sorted(new)}, on other data {elsewhere}"


def continued(words: list[Any], at: Path, kind: str, option: str) -> str:
    """The problem of a stopped run that is continued with the data as they are then."""
    change, is_same = CHANGES[kind]
    stop = functools.partial(on_step, 1, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    first = Command([*words, "--data-dir", at / "A", *OUT], at, before=stop).run()
    folder = change(at)
    again = [*words, *OUT] if option == "--out" else ["train", "--resume", "out"]
    second = Command([*again, "--data-dir", folder], at, log="second-").run()
    return first.ended(75) or second.ended(0 if is_same and folder.exists() else 3, *([] if is_same else [folder]))


def together(words: list[Any], at: Path) -> Iterator[Case]:
    """Runs on other data in one table have rows and columns of their own, and are not averaged."""
    for name, seed, method in itertools.product("AB", "012", ("lsg", "none")):
        place = ["--data-dir", at / name, "--out", at / "runs" / f"{name}-{method}-{seed}"]
        if seed != ("2" if name == "A" else "0"):  # they share seed 1
            Command([*words, "--method", method, "--seed", seed, *place], at).run()
    table = json.loads(Command(["ablate", "--collect", "runs", "--json"], at).run().out)
    yield Case("--collect", "" if [row["n"] for row in table["rows"]] == [2, 2, 2, 2] else str(table["rows"]))
    compared = json.loads(Command(["compare", "runs", "--json"], at).run().out)
    yield Case("compare", "" if [group["n"] for group in compared["groups"]] == [2, 2, 2, 2] else str(compared["groups"]))
    for path in (*(at / "runs").glob("A-none-*"), *(at / "runs").glob("B-lsg-*")):
        shutil.rmtree(path)
    table = json.loads(Command(["ablate", "--collect", "runs", "--json"], at).run().out)
    differences = [row["difference"] for row in table["rows"]]
    yield Case("--collect of other methods", "" if differences == [None, None] else f"differences {differences}")


@row(
    72,
    fault="the command of earlier runs, with other data",
    promise="no command reports results of other data: status 6 names the run, or 3 the data of a continued run, or, without --out, there "
    "is a new folder; data that were moved or copied are still the same",
    quick=6,
    full=36,
)
def other_data(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`ablate` and `tune` with and without --out, and a stopped `train` that is continued by its own command or --resume, after the first
    data were replaced by others with the same names and sizes, got another file, were overwritten in place, moved, copied with other
    times, or deleted. `--collect` and `compare` of runs on two data sets."""
    words = warm(folder)
    words = words[: words.index("--data-dir")]
    short = [*words[1:], "--epochs", "1"]
    table = ["ablate", *short, "--grid", "method=lsg,none", "--seeds", "0"]
    search = ["tune", *short, "--search", "lr=0.1,0.2", "--trials", "2", "--val-fraction", "0.3"]
    commands: dict[str, Callable[[Path, str], str]] = {
        "ablate --out": lambda at, kind: repeated([*table, *OUT], at, kind),
        "ablate": lambda at, kind: repeated(table, at, kind),
        "train --out": lambda at, kind: continued(words, at, kind, "--out"),
        "train --resume": lambda at, kind: continued(words, at, kind, "--resume"),
    }
    if find_spec("optuna"):
        commands["tune --out"] = lambda at, kind: repeated([*search, *OUT], at, kind)
        commands["tune"] = lambda at, kind: repeated(search, at, kind)
    cases = list(itertools.product(commands, CHANGES))
    chance.shuffle(cases)
    for number, (command, kind) in enumerate(cases[:count]):
        at = folder / str(number)
        for name, seed in (("A", 0), ("B", 1)):
            bitmaps(at / name, seed)
        problem = commands[command](at, kind)
        yield Case(command, problem and f"{kind}: {problem}")
        shutil.rmtree(at)
    for name, seed in (("A", 0), ("B", 1)):
        bitmaps(folder / "together" / name, seed)
    yield from together(words, folder / "together")
