"""Rows of what surrounds a run: names, files that others move or delete while it runs, and what its environment lacks."""

import functools
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.stress.data import recording
from benchmarks.stress.program import TINY, Command, tensors, warm
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import on_step
from lsgcli.training.loop import Trainer
from tests import networks
from tests.tiny import images

NAMES = [
    os.fsdecode(b"not UTF-8 \xff\xfe"),
    "-dash",
    "two\nlines",
    "a b",
    "'quotes\"",
    "*?[a]",
    "%s {x} $HOME",
    "ünï 日本 🦊",
    "tab\tand \x1b[31mescape",
    "#comment;x=1,y=2",
    "<b>&amp;",
]
STEPS = 10  # of a run


@row(
    46,
    fault="names of spaces, line breaks, quotes, control characters, bytes that are not UTF-8",
    promise="trains, resumes and predicts as with any other name",
    quick=2,
    full=len(NAMES),
)
def names(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A name that a shell, a terminal, a page or a library may misread, as that of the run directory, the data folder, and a class.
    The checkpoint must be bit-identical to that of a run with plain names (of another class: trains); the run is extended by an epoch, and
    its checkpoint used by `lsg predict`."""
    words, expected = warm(folder), tensors(folder / "warm")
    for number, name in enumerate(NAMES[:count]):
        at = folder / str(number)
        one = Command([*words, "--out", f"./{name}"], at).run()
        problem = one.ended(0) or ("" if tensors(at / name) == expected else "other bits")
        yield Case("run directory", problem and f"{name!r}: {problem}")
        resumed = Command(["train", "--resume", f"./{name}", "--epochs", "3"], at).run()
        yield Case("resume", (problem := resumed.ended(0)) and f"{name!r}: {problem}")
        (at / name).mkdir(exist_ok=True)
        shutil.copytree(folder / "data", at / name / "data")
        os.rename(at / name / "data" / "train" / "red", at / name / "data" / "train" / name)
        os.rename(at / name / "data" / "test" / "red", at / name / "data" / "test" / name)
        other = Command([*words, "--data-dir", f"./{name}/data", "--out", "run"], at).run()
        yield Case("data folder and class", (problem := other.ended(0)) and f"{name!r}: {problem}")
        predicted = Command(["predict", f"./{name}/best.safetensors", f"./{name}/data/test"], at).run()
        lines = len(predicted.out.splitlines())
        yield Case(
            "predict", (problem := predicted.ended(0) or ("" if lines == 18 else f"{lines} lines")) and f"{name!r}: {problem}"
        )


@row(
    47,
    fault="the run directory, the cache, the data or the working directory is moved or deleted during the run",
    promise="status 7 names the run directory, and a moved one resumes where it is; nothing else matters",
    quick=4,
    full=50,
)
def moved(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Before a random step, the run directory is moved or deleted, or the cache, the data folder, or an empty working directory is
    deleted. A moved run is resumed at its new place; the last checkpoint must be bit-identical to that of an undisturbed run."""
    words, expected = warm(folder), tensors(folder / "warm")
    for number in range(count):
        kind = ("run moved", "run deleted", "cache and data deleted", "working directory deleted")[number % 4]
        at, step = folder / str(number), chance.randrange(STEPS)
        shutil.copytree(folder / "data", at / "data")
        actions: dict[str, Callable[[Trainer], object]] = {
            "run moved": lambda trainer: os.rename(trainer.run.path, "elsewhere"),
            "run deleted": lambda trainer: shutil.rmtree(trainer.run.path),
            "cache and data deleted": lambda trainer, at=at: [shutil.rmtree(at / name) for name in ("cache", "data")],
            "working directory deleted": lambda trainer: (os.mkdir("empty"), os.chdir("empty"), os.rmdir("../empty")),
        }
        out, before = "run" if kind.startswith("run") else at / "run", functools.partial(on_step, step, actions[kind])
        one = Command([*words, "--data-dir", at / "data", "--out", out], at, before=before).run()
        problem = one.ended(7, "error: run: was moved or deleted") if kind.startswith("run") else one.ended(0)
        run = at / ("elsewhere" if kind == "run moved" else "run")
        if kind == "run moved" and not problem:
            problem = Command(["train", "--resume", "elsewhere"], at).run().ended(0)
        if kind != "run deleted" and not problem and tensors(run) != expected:
            problem = "other bits"
        yield Case(kind, problem and f"step {step}: {problem}")


def closed_stdin() -> None:
    """As after ``<&-``."""
    os.close(0)
    sys.stdin = None  # type: ignore[assignment]


def closed_streams() -> None:
    """As after ``<&- >&- 2>&-``."""
    closed_stdin()
    os.closerange(1, 3)
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


def full_stderr() -> None:
    """As after ``2> /dev/full``."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def ascii_and_few_files() -> None:
    """As with PYTHONIOENCODING=ascii, or a pipe on Windows, whose encoding lacks most characters; and with ``ulimit -n 18``."""
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="ascii", errors="backslashreplace")  # type: ignore[union-attr]
    resource.setrlimit(resource.RLIMIT_NOFILE, (18, 18))


LACKS: dict[str, tuple[dict[str, str | None], Callable[[], None]]] = {
    "stdout and stderr in ASCII, 18 open files": ({}, ascii_and_few_files),
    "closed streams": ({}, closed_streams),
    "no HOME": ({"HOME": None, "XDG_CACHE_HOME": None}, lambda: None),
    "HOME is no folder": ({"HOME": "/dev/null", "XDG_CACHE_HOME": None}, lambda: None),
    "the cache is no folder": ({"XDG_CACHE_HOME": "/dev/null"}, lambda: None),
    "stderr full": ({}, full_stderr),
    "an invalid time zone": ({"TZ": "nowhere/at:all"}, lambda: None),
    "a terminal of no width": ({"COLUMNS": "0", "LINES": "-1", "TERM": "dumb"}, lambda: None),
}


@row(
    48,
    fault="an environment without UTF-8, a home, a cache, stdin, stderr or more than 18 open files",
    promise="bit-identical training, and the same predictions; without a stdout to print them to, status 7",
    quick=2,
    full=len(LACKS),
)
def environments(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg train`, and `lsg predict` with a class whose name is not ASCII. The last checkpoint must be bit-identical to that of another run;
    in ASCII, a prediction must contain the name as an escape. A list of paths on a closed stdin is refused."""
    words, data = warm(folder), folder / "named"
    shutil.copytree(folder / "data", data)
    for part in ("train", "test"):
        os.rename(data / part / "red", data / part / "r\u00f6t")
    words += ["--data-dir", str(data)]
    usual = Command([*words, "--out", "run"], folder / "usual").run()
    expected = tensors(folder / "usual" / "run")
    test = ["predict", str(folder / "usual" / "run" / "best.safetensors"), str(data / "test")]
    lines = Command(test, folder / "usual").run().out
    yield Case("the usual environment", usual.ended(0) or ("" if lines.count("\n") == 18 else lines))
    for number, (kind, (variables, before)) in enumerate(list(LACKS.items())[:count]):
        at = folder / str(number)
        one = Command([*words, "--out", "run"], at, variables, before).run()
        yield Case(kind, one.ended(0) or ("" if tensors(at / "run") == expected else "other bits"))
        predicted = Command(test, at, variables, before).run()
        wanted = lines
        if before is ascii_and_few_files:
            wanted = lines.replace("\u00f6", "\\xf6")
        elif before is closed_streams:
            wanted = ""
        status = 7 if before is closed_streams else 0  # predictions that cannot be printed are lost
        yield Case(kind, predicted.ended(status) or ("" if predicted.out == wanted else f"other lines: {predicted.out[-200:]}"))
    listed = Command([*test[:2], "-"], folder / "usual", before=closed_stdin).run()
    yield Case("a list on a closed stdin", listed.ended(3, "stdin"))


MODULES = ("lsgcli", "torch", "numpy", "numba", "typer", "msgspec", "json", "pickle", "runpy", "selectors", "socket")
LSG = "from lsgcli.cli.app import main\nif __name__ == '__main__':\n    main()\n"  # as the script that pip installs


def started(folder: Path, words: Sequence[object], at: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended, of a new interpreter in the folder ``at``, which may have been deleted."""
    (folder / "lsg.py").write_text(LSG)
    command = [sys.executable, str(folder / "lsg.py"), *map(str, words)]
    gone = ["bash", "-c", 'cd "$0"; rmdir "$0"; exec "$@"', str(at)] if variables.pop("gone", "") else []
    options = {"cwd": "/" if gone else at, "capture_output": True, "text": True, "timeout": 300, "check": False}
    return subprocess.run([*gone, *command], env={**os.environ, **variables}, **options)  # type: ignore[no-any-return,call-overload]


@row(
    58,
    fault="modules named like dependencies in the working directory (`typer.py`, `torch.py`, `json.py`)",
    promise="no process that lsg starts imports them",
    quick=1,
    full=2,
)
def modules(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Commands that start other interpreters, in a folder of modules with such names, each of which leaves a note when it is imported:
    `train --devices` and `ablate` with processes of this machine. They must end well."""
    here, note = folder / "here", folder / "note"
    here.mkdir()
    for name in MODULES:
        (here / f"{name}.py").write_text(f"open({str(note)!r}, 'a').write({name + ' '!r})\nraise ImportError('a stranger')\n")
    training = [*TINY, "--data-dir", str(images(folder / "data")), "--epochs", "1"]
    ablate = ["ablate", *training, "method=lsg", "--seeds", "0"]
    commands = {
        "train --devices": ["train", *training, "--devices", "cpu:2", "--out", folder / "ranks"],
        "ablate --launcher local": [*ablate, "--launcher", "local", "--out", folder / "local"],
    }
    for kind, words in list(commands.items())[:count]:
        ran = started(folder, words, here)
        imported = note.read_text() if note.exists() else ""
        note.unlink(missing_ok=True)
        yield Case(
            kind,
            f"imported {imported}" if imported else f"status {ran.returncode}: {ran.stderr[-300:]}" * (ran.returncode != 0),
        )


ODD: dict[str, tuple[dict[str, str], int, str]] = {  # environment, expected status, what the message names
    "a deleted folder": ({"gone": "yes"}, 7, "working directory"),
    "TORCH_LOGS": ({"TORCH_LOGS": "junk"}, 2, "TORCH_LOGS"),
    "NUMBA_NUM_THREADS": ({"NUMBA_NUM_THREADS": "abc"}, 2, "NUMBA_NUM_THREADS"),
    "NUMBA_NUM_THREADS below 1": ({"NUMBA_NUM_THREADS": "0"}, 2, "NUMBA_NUM_THREADS"),
}


@row(
    69,
    fault="started in a deleted folder, or with nonsense in the variables of torch and numba",
    promise="one message, and the exit status of a folder or of a setting",
    peers="in a deleted folder, Intel's library ends any program that imports torch",
    quick=2,
    full=len(ODD),
)
def odd_starts(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg predict` in a new process for each; torch and numba read their variables when they are imported."""
    networks.saved(folder / "net.safetensors")
    (folder / "a.aedat").write_bytes(recording(1))
    for kind, (variables, status, named) in list(ODD.items())[:count]:
        (at := folder / "here").mkdir(exist_ok=True)
        ran = started(folder, ["predict", folder / "net.safetensors", folder / "a.aedat"], at, **variables)
        lines = ran.stderr.splitlines()
        good = ran.returncode == status and lines[0].startswith("error: ") and named in lines[0] and len(lines) == 2
        yield Case(kind, "" if good else f"status {ran.returncode}, {len(lines)} lines: {ran.stderr[-300:]}")
