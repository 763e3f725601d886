"""Rows of text from outside in files that lsg writes: cells of tables, control characters, line feeds in scripts."""

import csv
import io
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.stress.program import Command, warm
from benchmarks.stress.rows import Case, row

NAMES = (
    *('=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "=cmd|' C'!A0"),
    *("\x1b[31mred", "\x1b]0;title\x07", "bell\x07", "\x9bnext", "\u202eright", "\x85line"),
)
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # control characters, and those that reorder text
FORMULA = re.compile(r"[=+\-@\t\r]")
BINARY = (".safetensors", ".png", ".npy", ".sqlite")


def formulas(text: str) -> list[str]:
    cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
    return [cell for cell in cells if FORMULA.match(cell) and not re.fullmatch(r"([-+]?[\d.]+(e[-+]?\d+)?\s*)+", cell)]


def raw(text: str) -> str:
    """The problem of text with raw control characters."""
    found = RAW.search(text)
    return (found and f"{found[0]!r} in {text[max(0, found.start() - 40) : found.start() + 40]!r}") or ""


def written(folder: Path) -> Iterator[Case]:
    """A case for each kind of file of text in a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in BINARY and "tfevents" not in path.name:
            text = path.read_text(errors="replace")
            problem = raw(text) or (f"formulas {found}" if path.suffix == ".csv" and (found := formulas(text)) else "")
            yield Case(path.suffix or path.name, problem and f"{path.name}: {problem}")


@row(
    70,
    fault="class names, folders and files with formulas and control characters, in the files that lsg writes",
    promise="no cell of a CSV begins a formula; no file and no table contains a raw control character",
    quick=2,
    full=len(NAMES),
)
def cells(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A name that a spreadsheet or a terminal would act on, as that of a class, of the folder of the data, of a file and of the run: every
    file of text that train, eval, inspect-gradients, compare, ablate, tune and export write, and the tables that they print to a pipe."""
    words = warm(folder)
    words = words[: words.index("--data-dir")]
    for number, name in enumerate(chance.sample(NAMES, min(count, len(NAMES)))):
        at = folder / str(number)
        data, run = at / f"{name.replace('/', ' ')}", at / "out" / f"run {name.replace('/', ' ')}"
        shutil.copytree(folder / "data", data)
        for part in ("train", "test"):
            (data / part / "red").rename(data / part / name.replace("/", " "))
            (data / part / "green" / "00.png").rename(data / part / "green" / f"{name.replace('/', ' ')}.png")
        out = at / "out"
        common = ["--data-dir", data]
        short = [*words[1:], "--epochs", "1", *common]
        Command([*words, *common, "--log", "csv", "--out", run], at).run()
        best = run / "best.safetensors"
        commands: dict[str, list[Any]] = {
            "eval": ["eval", best, *common, "--csv", out / "a.csv", "--plot", out / "a.svg"],
            "eval --csv -": ["eval", best, *common, "--csv", "-"],
            "inspect-gradients": ["inspect-gradients", best, *common, "--csv", "--html", out / "a.html"],
            "ablate": ["ablate", *short, "--grid", "method=lsg,none", "--seeds", "0", "--format", "csv", "--out", out / "abl"],
            "compare": ["compare", out, "--html", out / "c.html"],
            "export": ["export", best, "--format", "hf", "-o", out / "hf"],
            **{
                f"ablate --format {form}": ["ablate", "--collect", out, "--format", form]
                for form in ("csv", "markdown", "latex", "table")
            },
            "runs": ["runs", out],
        }
        for command, given in commands.items():
            one = Command(given, at, log=f"{command} ").run()
            problem = one.ended(0) or raw(one.out) or raw(one.err)
            of_csv = any("csv" in str(word) for word in given) and "--plot" not in given
            problem = problem or (f"formulas {found}" if of_csv and (found := formulas(one.out)) else "")
            yield Case(command, problem and f"{name!r}: {problem}")
        for case in written(out):
            yield case._replace(problem=case.problem and f"{name!r}: {case.problem}")
        shutil.rmtree(at)


@row(
    71,
    fault="line feeds in the folder, the working directory and the options of jobs for SLURM",
    promise="refused with status 2 before a script is written",
    quick=5,
    full=5,
)
def scripts(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`ablate --launcher slurm` with commands of SLURM that record the script they get: a line feed or carriage return in --out, the
    working directory, or an option of sbatch."""
    words = warm(folder)
    bin_, script = folder / "bin", folder / "script"
    bin_.mkdir()
    for name in ("sbatch", "squeue", "scancel", "srun", "sacct", "scontrol"):
        (bin_ / name).write_text(
            f'#!/bin/sh\n[ "$(basename "$0")" != sbatch ] || {{ cat "$@" > "{script}"; echo Submitted batch job 1; }}\n'
        )
        (bin_ / name).chmod(0o755)
    table = ["ablate", *words[1:], "--grid", "method=lsg", "--seeds", "0", "--launcher", "slurm"]
    feed = chance.choice("\n\r")
    evil = f"a{feed}#SBATCH --wrap=evil"
    attempts: dict[str, tuple[list[Any], Path]] = {
        "--out": ([*table, "--out", folder / evil], folder),
        "working directory": ([*table, "--out", "out"], folder / evil),
        "--slurm": ([*table, "--out", "out", "--slurm", f"comment={evil}"], folder),
        "--slurm setup": ([*table, "--out", "out", "--slurm", f"setup=x{feed}#SBATCH --wrap=evil"], folder),
        "--slurm job_name": ([*table, "--out", "out", "--slurm", f"job_name={evil}"], folder),
    }
    path = {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    for kind, (given, at) in list(attempts.items())[:count]:
        script.unlink(missing_ok=True)
        one = Command(given, at, path, log="log-").run(20)
        text = script.read_text() if script.exists() else ""
        injected = re.search(r"^#SBATCH --wrap=evil", text, re.MULTILINE)
        problem = "a line of its own in the script" if injected else one.ended(2)
        yield Case(kind, problem)
