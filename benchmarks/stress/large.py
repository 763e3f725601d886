"""The row of folders and records that are larger or deeper than any that lsg makes."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.stress.program import Command, warm
from benchmarks.stress.rows import Case, row

DEEP = 1900  # folders, whose names and separators fit in a path of 4096 bytes
LONG = 60 << 20  # bytes of metrics.jsonl
MANY = 100_000  # runs
MEMORY, SECONDS = 100 << 10, 20  # KiB, and of processor time, beyond that of a command on a small run


def link(run: Path, to: Path) -> None:
    """The same run in another folder, without a copy of its files."""
    to.mkdir()
    for name in ("config.json", "metrics.jsonl", "result.json"):
        os.link(run / name, to / name)


def deep(root: Path) -> None:
    before = os.getcwd()
    root.mkdir()
    os.chdir(root)
    for _ in range(DEEP):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(before)


def levels(root: Path, run: Path, folder: Path) -> Iterator[Case]:
    """Commands on a folder of many levels, without and with a run at its bottom."""
    bottom = root.joinpath(*["d"] * DEEP)
    readers: dict[str, list[Any]] = {
        "runs": ["runs", root],
        "compare": ["compare", root],
        "ablate --collect": ["ablate", "--collect", root],
        "data verify": ["data", "verify", root],
        "data info": ["data", "info", root],
        "predict": ["predict", run / "best.safetensors", root],
        "train": ["train", "--dataset", "image-folder", "--data-dir", root, "--split", "stratified"],
    }
    for name, words in readers.items():
        one = Command(words, folder).run()
        yield Case(
            f"deep, {name}",
            "" if one.status in (0, 2, 3) and "Traceback" not in one.err else f"status {one.status}: {one.err[-300:]}",
        )
    for name in ("config.json", "metrics.jsonl", "result.json"):
        shutil.copyfile(run / name, bottom / name)
    one = Command(["runs", root], folder).run()
    yield Case("a run at the bottom", one.ended(0) or ("" if str(bottom) in one.out else "not listed"))


def long_metrics(run: Path, at: Path, folder: Path, size: int) -> Iterator[Case]:
    """`runs` and `compare` on a run of very many epochs."""
    shutil.copytree(run, at)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    record, text = json.loads(lines[-1]), ""
    with (at / "metrics.jsonl").open("w") as stream:
        for epoch in range(size // len(lines[-1])):
            text = json.dumps({**record, "epoch": epoch, "val_accuracy": 0.5 + 0.4 * (epoch == 7)})
            stream.write(text + "\n")
    for command in ("runs", "compare"):
        before = Command([command, run, "--json"], folder).run()
        after = Command([command, at, "--json"], folder).run()
        memory, seconds = after.usage.ru_maxrss - before.usage.ru_maxrss, after.seconds - before.seconds
        problem = after.ended(0) or ("" if "0.9" in after.out else f"the best accuracy is not in {after.out[-300:]}")
        problem = problem or (f"{memory} KiB" if memory > MEMORY else "") or (f"{seconds:.1f} s" if seconds > SECONDS else "")
        yield Case(f"long metrics.jsonl, {command}", problem)


def lock(run: Path, at: Path, folder: Path, kind: str) -> Case:
    """A lock that is a folder or a FIFO: nobody holds it."""
    shutil.copytree(run, at)
    os.mkdir(at / ".lock") if kind == "folder" else os.mkfifo(at / ".lock")
    one = Command(["runs", at], folder).run()
    return Case(f"a {kind} for a lock", one.ended(0) or ("" if one.out.startswith("finished") else one.out))


@row(
    66,
    fault="folders 1,900 deep, 100,000 runs, a metrics.jsonl of 60 MB, a lock that is no file",
    promise="no traceback; `runs` and `compare` read records line by line, with 100 MB and in seconds; the state of a run is true",
    quick=1,
    full=100,
)
def large(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Commands that look for runs, recordings or images in a folder of 1,900 levels, with a run at its bottom; a run of very many epochs,
    and very many runs, which are fewer for fewer cases: of 100, all."""
    warm(folder)
    run = folder / "warm"
    deep(folder / "deep")
    try:
        yield from levels(folder / "deep", run, folder)
    finally:  # shutil.rmtree would recurse
        subprocess.run(["rm", "-rf", folder / "deep"], check=True)
    yield from long_metrics(run, folder / "long", folder, LONG * min(count, 100) // 100 + (1 << 20))
    for kind in ("folder", "FIFO"):
        yield lock(run, folder / kind, folder, kind)
    number = MANY * min(count, 100) // 100
    (folder / "many").mkdir()
    for index in range(number):
        if index % 30_000 == 0:  # a file has at most 65,000 names
            source = folder / f"source-{index}"
            shutil.copytree(run, source)
        link(source, folder / "many" / str(index))
    one = Command(["runs", folder / "many"], folder).run()
    yield Case("many runs", one.ended(0) or ("" if len(one.out.splitlines()) == number else "some are missing"))
