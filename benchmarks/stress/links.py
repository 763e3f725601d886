"""The row of symbolic links: what a command writes is replaced by a link out of the folder."""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stress.program import Command, warm
from benchmarks.stress.rows import Case, row
from lsgcli.data import manifest

RUN, OUT = Path("run"), Path("out")
LOCKED = ("config.json", "study.db")  # in folders in which there is a lock while a command writes
ALL, SOME = 100, 4  # cases from which all commands are tested; of fewer, some commands


@dataclass(frozen=True)
class Writing:
    """A command that writes files.

    Attributes:
        words: of the command, in a folder in which ``before`` was copied.
        named: paths that the user gives. A folder may be a link, which is the user's choice; what is in it may not.
        statuses: expected; 3 where data are missing behind the link.
    """

    words: Sequence[Any]
    before: Sequence[str] = ()
    named: Path = OUT
    statuses: tuple[int, ...] = (2, 7)


def stamps(folder: Path) -> dict[Path, tuple[int, ...]]:
    """Identity, size and times of all files, and the folders, below a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path.relative_to(folder)] = (status.st_ino, status.st_size, status.st_mtime_ns) if path.is_file() else ()
    return found


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def writings(folder: Path) -> dict[str, Writing]:
    made, train = folder / "made", warm(folder)
    net = made / "run" / "best.safetensors"
    Command([*train, "--log", "csv", "--epochs", "1", "--out", made / "run"], folder).run()
    shutil.copytree(made / "run", made / "ablation" / "method=lsg" / "s0")
    for path in (made / "data", made / "data" / "more"):
        for name in ("a", "b"):
            (path / name).mkdir(parents=True)
            np.savez(path / name / "0.npz", **{key: np.arange(9) % 2 for key in "xytp"})
    for path in (made / "data" / "more", made / "data"):
        manifest.write(path)
        (path / "a" / "0.npz").unlink()
    ablate = ["ablate", *train[1:], "--grid", "method=none,lsg", "--seeds", "0", "--epochs", "1", "--out", OUT]
    found = {
        "train": Writing([*train, "--epochs", "1", "--log", "csv", "--out", RUN], named=RUN),
        "train --force": Writing([*train, "--epochs", "1", "--log", "csv", "--out", RUN, "--force"], ["run"], RUN),
        "train --resume": Writing(["train", "--resume", RUN, "--epochs", "2"], ["run"], RUN),
        "ablate": Writing(ablate),
        # Starts interpreters, which takes seconds.
        "ablate --launcher": Writing([*ablate, "--launcher", "local", "--jobs", "1"]),
        "ablate --plot": Writing(["ablate", "--collect", "ablation", "--plot", OUT, "--force"], ["ablation"]),
        "compare --html": Writing(["compare", made / "run", "--html", "page.html", "--force"], named=Path("page.html")),
        "inspect-gradients": Writing(["inspect-gradients", net, "--data-dir", folder / "data", "--plot", OUT, "--force"]),
        "export": Writing(["export", net, "-o", "net.safetensors", "--force"], named=Path("net.safetensors")),
        "export --format hf": Writing(["export", net, "--format", "hf", "-o", OUT, "--force"]),
        "data show": Writing(["data", "show", made / "data", "-o", "a.png", "--force"], named=Path("a.png")),
        "data verify --write": Writing(["data", "verify", "data", "--write"], ["data"], Path("data"), (2, 3, 7)),
    }
    if find_spec("optuna"):
        options = ["--val-fraction", "0.2", "--trials", "1", "--epochs", "1", "--out", OUT]
        found["tune"] = Writing(["tune", *train[1:], "--search", "lr=0.1,0.2", *options])
    return found


def start(writing: Writing, made: Path, at: Path) -> None:
    at.mkdir()
    for name in writing.before:
        shutil.copytree(made / name, at / name)


def written(writing: Writing, made: Path, at: Path) -> tuple[list[Path], str]:
    """The files that an undisturbed command writes, and the folders in which they are, except the named one; and the problem."""
    start(writing, made, at)
    before = stamps(at)
    one = Command(writing.words, at, log=".").run()
    after = stamps(at)
    own = {path for path in after if path.is_relative_to(writing.named) and before.get(path) != after[path]}
    own |= {parent for path in own for parent in path.parents if parent.is_relative_to(writing.named)}
    own |= {path.with_name(".lock") for path in own if path.name in LOCKED}
    if (at / writing.named).is_dir():
        own.discard(writing.named)
    return sorted(own), "" if one.status in (0, 3) else f"status {one.status}: {one.err[-300:]}"


@row(
    51,
    fault="links out of a run, an output folder or a data folder",
    promise="exit status 7 or 2 (3 if data are missing behind the link), and nothing outside changes",
    quick=12,
    full=400,
)
def links(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each command that writes files runs undisturbed, to find what it writes. Then each file, and each folder except the one that the user
    names, is a symbolic link before the command runs again: to the same content elsewhere, or to nothing. With --quick, a few files of
    four commands."""
    made, cases, commands = folder / "made", [], writings(folder)
    if count < ALL:
        commands.pop("ablate --launcher")
        commands = {name: commands[name] for name in chance.sample(list(commands), SOME)}
    for name, writing in commands.items():
        found, problem = written(writing, made, folder / f"undisturbed {name}")
        yield Case("undisturbed", problem and f"{name}: {problem}")
        cases += [(name, writing, path, dangling) for path in found for dangling in (False, True)]
    chance.shuffle(cases)
    for number, (name, writing, path, dangling) in enumerate(cases[:count]):
        at, away, source = folder / str(number), folder / f"away {number}", folder / f"undisturbed {name}" / path
        start(writing, made, at)
        away.mkdir()
        if not dangling:
            shutil.copytree(source, away / "target") if source.is_dir() else shutil.copyfile(
                source if source.exists() else os.devnull, away / "target"
            )
        link = at / path
        shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(away / "target")
        before = contents(away)
        one = Command(writing.words, at, log=".").run()
        problem = (
            "" if one.status in writing.statuses and "Traceback" not in one.err else f"status {one.status}: {one.err[-300:]}"
        )
        problem = problem or ("" if contents(away) == before else "files outside changed")
        kind = f"{'dangling' if dangling else 'live'} link, {'folder' if source.is_dir() else 'file'}"
        yield Case(kind, problem and f"{name}, {path}: {problem}")
        shutil.rmtree(at)
