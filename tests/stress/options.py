"""Give every option and argument of every command values that nobody means: `python -m tests.stress.options --jobs 2`, some minutes.

Whatever it is given, a command ends within 20 s of processor time, without a traceback or a signal, below 1 GiB of memory, and leaves the files that were
there as they were. Commands, options and arguments are those that the program declares. A command runs in a fork of a process
that has imported torch; one that was swept already, by the lines of ``--work``, is not swept again.
"""

import argparse
import collections
import contextlib
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.stress.program import HANGS, Command
from tests.stress.rows import limit_memory

RESULTS = Path(__file__).parent / "results" / "options.json"
SECONDS, MIB = 20, 1024
PATIENCE = 120  # seconds on the clock, of a machine that may be busy
RESERVE = 4 << 30  # bytes of address space beyond what the libraries take
KINDS = ("traceback", "signal", "slow", "memory", "changed")

DATA, RUN = "decoy/data", "decoy/run"
CKPT, RECORDING, IMAGES = f"{RUN}/best.safetensors", f"{DATA}/train/a/0.npz", "decoy/images"
VALUES = {
    "empty": "",
    "0": "0",
    "-1": "-1",
    "1e300": "1e300",
    "nan": "nan",
    "folder": DATA,
    "/dev/zero": "/dev/zero",
    "checkpoint": CKPT,
}
PREPARED = {"dataset": "event-folder", "data_dir": DATA, "T": 1, "size": 16, "slicing": "window", "window_us": 100_000}
TRAINED = {**PREPARED, "width_multiplier": 0.03125, "epochs": 1, "batch_size": 4, "workers": 0, "loss": "tet", "threads": 1}
# What a command is given besides; of others, what METAVARS says for arguments.
BASES: dict[str, dict[str, Any]] = {
    "train": TRAINED,
    "ablate": {**TRAINED, "grid": "method=none", "seeds": 0},
    "eval": {"checkpoint": CKPT, "data_dir": DATA},
    "inspect-gradients": {"checkpoints": CKPT, "data_dir": DATA, "batches": 1},
    "export": {"checkpoint": CKPT, "output": "net.safetensors"},
    "data prepare": PREPARED,
    "data show": {"paths": RECORDING, "output": "sheet.png"},
    "data simulate": {"source": IMAGES, "out": "made", "per_class": 1},
    "data info": {"path": DATA},
    "data verify": {"path": DATA},
}
METAVARS = {"CKPT": CKPT, "RUN": RUN, "DIR": DATA}


def commands() -> Iterator[tuple[str, list[Any]]]:
    """Name -> parameters of every command, as the program declares them."""
    import typer.main

    from lsgcli.cli.app import app
    from lsgcli.cli.commands import commands_of

    for name, command in commands_of(typer.main.get_command(app)):
        yield name, [parameter for parameter in command.params if parameter.name != "help"]


def cases() -> Iterator[list[str]]:
    """The words of every command line."""
    for name, parameters in commands():
        base = BASES.get(name) or {
            p.name: METAVARS.get((p.metavar or "").strip("[].").upper(), RECORDING)
            for p in parameters
            if p.required or p.param_type_name == "argument"
        }
        yield words(name, parameters, base)
        for swept in parameters:
            flag = getattr(swept, "is_flag", False)
            for value in (None,) if flag else VALUES.values():
                yield words(name, parameters, {**base, swept.name: value})
            for off in getattr(swept, "secondary_opts", ()):
                yield [*words(name, parameters, base), off]


def words(name: str, parameters: list[Any], values: dict[str, Any]) -> list[str]:
    """A command line that gives these parameters these values; None is a flag."""
    options: list[str] = []
    arguments: list[str] = []
    for one in parameters:
        if one.name not in values:
            continue
        text = [] if values[one.name] is None else [str(values[one.name])]
        if one.param_type_name == "argument":
            arguments += text
        else:
            options += [one.opts[-1], *text]
    return [*name.split(), *options, *(["--", *arguments] if arguments else [])]


def make_decoy(folder: Path) -> None:
    """Files of a user: recordings and images of two classes, a run trained on them, notes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for (part, count), name in itertools.product((("train", 8), ("test", 2)), "ab"):
        (folder / "data" / part / name).mkdir(parents=True)
        for number in range(count):
            x, y, p = rng.integers(0, 16, 200), rng.integers(0, 16, 200), rng.integers(0, 2, 200)
            np.savez(folder / "data" / part / name / f"{number}.npz", x=x, y=y, p=p, t=np.arange(200) * 1000, sensor=[16, 16])
    for name in "ab":
        (folder / "images" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "images" / name / "0.png")
    (folder / "notes.txt").write_text("mine\n")


def digests(folder: Path) -> dict[str, str]:
    """Path -> digest of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(line: list[str], home: Path) -> dict[str, Any]:
    """Run a command in a fork, in the folder ``home``: its status, seconds, memory and whether a traceback was printed."""
    one = Command(line, home, before=limited).run(PATIENCE)
    if one.status == HANGS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)  # and its processes
    status, mib = one.status or 0, one.usage.ru_maxrss // 1024
    faults = {
        "traceback": status in (1, 70) or "Traceback" in one.err,
        "signal": status < 0 and status != HANGS,
        "slow": status == HANGS or one.seconds > SECONDS,
        "memory": mib >= MIB,
    }
    kept = [kind for kind, found in faults.items() if found]
    return {"line": line, "status": status, "seconds": round(one.seconds, 2), "mib": mib, "faults": kept} | (
        {"stderr": one.err[-500:]} if kept else {}
    )


def limited() -> None:
    """Give this process a group of its own and a limit of memory."""
    os.setsid()
    limit_memory(RESERVE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def preload() -> None:
    """Import all that commands import when they run, once for all forks."""
    import lsgcli

    importlib.import_module("torch._dynamo")
    for module in pkgutil.walk_packages(lsgcli.__path__, "lsgcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def work(source: Path, todo: list[list[str]], done: Path) -> None:
    """Run some command lines one after the other, each with the decoy as it was, and add a line on each to ``done``."""
    preload()

    before = digests(source)
    with tempfile.TemporaryDirectory(prefix="lsg-options-") as folder:
        home = Path(folder)
        os.environ["HOME"] = folder
        for line in todo:
            for path in home.iterdir():
                if path.name not in ("decoy", "cache"):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            if not (home / "decoy").exists():
                shutil.copytree(source, home / "decoy")
            record = run(line, home)
            after = digests(home / "decoy")
            changed = sorted(name for name, digest in before.items() if after.get(name) != digest)
            if changed:
                record["faults"].append("changed")
                record["changed"] = changed
            if after != before:
                shutil.rmtree(home / "decoy")
            with open(done, "a") as stream:
                stream.write(json.dumps(record) + "\n")


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What came out, for the file of results."""
    known = [name for name, _ in commands()]
    names = collections.Counter(next(n for n in known if r["line"][: len(n.split())] == n.split()) for r in records)
    return {
        "command_lines": len(records),
        "commands": dict(names),
        "values": VALUES,
        "status": dict(sorted(collections.Counter(str(r["status"]) for r in records).items())),
        **{kind: sum(kind in r["faults"] for r in records) for kind in KINDS},
        "largest_mib": max(r["mib"] for r in records),
        "longest_seconds": max(r["seconds"] for r in records),
        "faults": [r for r in records if r["faults"]],
    }


def main() -> int:
    """Sweep, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="sweep the commands whose line holds this, and write no results")
    parser.add_argument("--work", type=Path, help="folder of the lines so far; a temporary one if not given")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    for name in [name for name in os.environ if name.startswith("LSG_")]:
        del os.environ[name]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="lsg-decoy-") as folder:
        place = arguments.work or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        done, source = place / "done.jsonl", Path(folder) / "decoy"
        make_decoy(source)
        train = ["train", "-q", "--out", "decoy/run", *words("train", dict(commands())["train"], TRAINED)[1:]]
        maker = context.Process(target=run_once, args=(train, Path(folder)))
        maker.start()
        maker.join()
        (Path(folder) / "stdout").unlink()
        swept = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
        over = {json.dumps(record["line"]) for record in swept}
        lines = {json.dumps(line): line for line in cases()}  # a value may be the one that the command has anyway
        every = [line for line in lines.values() if not arguments.only or arguments.only in " ".join(line)]
        todo = [line for line in every if json.dumps(line) not in over]
        print(f"{len(every)} command lines, {len(todo)} to run", file=sys.stderr)
        workers = [context.Process(target=work, args=(source, todo[k :: arguments.jobs], done)) for k in range(arguments.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        wanted = {json.dumps(line) for line in every}
        records = [r for r in map(json.loads, done.read_text().splitlines()) if json.dumps(r["line"]) in wanted]
    result = summary(records)
    if not arguments.only:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return int(bool(result["faults"]) or len(records) < len(every))


def run_once(line: list[str], home: Path) -> None:
    """Train the run of the decoy."""
    record = run(line, home)
    if record["status"]:
        raise SystemExit(str(record))


if __name__ == "__main__":
    sys.exit(main())
