"""The row of launched ablations: their processes are killed, and the same command must complete them."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stress.program import Command, warm
from benchmarks.stress.rows import Case, row

SLURM = Path(__file__).parents[2] / "tests" / "cluster" / "slurm.sh"
ALL = 10  # kills from which all launchers that this machine has are tested; fewer: only local
EPOCHS = 3  # of a run, for each fault


def training(root: Path) -> dict[int, tuple[int, str]]:
    """Processes of `lsg train` below ``root``: process -> (parent, run directory)."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            if "lsgcli" in words and "train" in words and "--out" in words and state[0] != "Z":
                out = words[words.index("--out") + 1]
                if Path(out).is_relative_to(root):
                    found[int(folder.name)] = int(state[1]), out
    return found


@contextlib.contextmanager
def local(folder: Path) -> Iterator[list[str]]:
    yield ["--jobs", "2"]


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[list[str]]:
    """Options for a SLURM of one node on this machine; none if it is not installed, or may not be started."""
    if os.geteuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        yield []
        return
    subprocess.run(["bash", SLURM, "start", folder / "slurm"], check=True, stdout=subprocess.DEVNULL)
    os.environ["SLURM_CONF"] = str(folder / "slurm" / "slurm.conf")
    try:
        yield ["--slurm", "time=10,cpus_per_task=1"]
    finally:
        subprocess.run(["bash", SLURM, "stop", folder / "slurm"], check=True, stdout=subprocess.DEVNULL)


LAUNCHERS = {"local": local, "slurm": slurm}


def hit(fault: str, root: Path, command: Command, chance: random.Random) -> bool:
    """Let the fault happen; returns whether there was something that it could hit."""
    if fault == "command":
        os.kill(command.pid, signal.SIGKILL)
        return True
    processes = training(root)
    if not processes:
        return False
    victim = chance.choice(sorted(processes))
    with contextlib.suppress(OSError, KeyError, ValueError, subprocess.CalledProcessError):
        if fault == "requeue":
            variables = dict(v.split("=", 1) for v in Path(f"/proc/{victim}/environ").read_text().split("\0") if "=" in v)
            job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
            subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True)
        else:
            os.kill(victim if fault == "lsg train" else processes[victim][0], signal.SIGKILL)
        return True
    return False


def epochs(root: Path) -> list[list[int]]:
    files = sorted(root.rglob("metrics.jsonl"))
    return [[json.loads(line)["epoch"] for line in file.read_text().split("\n")[:-1]] for file in files]


@row(
    41,
    fault="a launcher's job is killed or requeued, or the command itself",
    promise="the same command completes all cells: none lost, no epoch recorded twice, the table of an undisturbed ablation",
    quick=1,
    full=ALL,
)
def launchers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg ablate --launcher local` (with --full also slurm, if this machine has it) over four cells, while SIGKILL hits the
    `lsg train` of a cell, the launcher's process that started it, or `lsg ablate`, which is then repeated; on SLURM, a running job may
    also be requeued. A fault happens some random seconds after the next epoch was recorded. Each fault and each cell is a case."""
    methods, seeds = ("none,lsg", "0-1") if count > 1 else ("lsg", "0")
    words = [
        "ablate",
        *warm(folder)[1:],
        "--epochs",
        str(EPOCHS * count),
        "--grid",
        f"method={methods}",
        "--seeds",
        seeds,
        "-q",
    ]
    whole = Command([*words, "--out", "whole"], folder).run(600)
    assert whole.status == 0, whole.err
    expected = whole.out
    for launcher, prepared in LAUNCHERS.items():
        if launcher != "local" and count < ALL:
            continue
        with prepared(folder) as options:
            if options:
                root = folder / launcher
                words_here = [*words, "--out", str(root), "--launcher", launcher, *options]
                faults = ["lsg train", "launcher", "command", *["requeue"] * (launcher == "slurm")]
                yield from _disturbed(launcher, words_here, root, faults, count, chance, expected)


def _disturbed(
    launcher: str, words: list[str], root: Path, faults: list[str], count: int, chance: random.Random, expected: str
) -> Iterator[Case]:
    done, wanted, due, limit = 0, 1, 0.0, time.monotonic() + 3600
    command = Command(words, root.parent, log=f"{launcher}-").start()
    while command.poll() is None or command.status == -signal.SIGKILL:
        if command.status is not None:  # the fault, or the limit
            if time.monotonic() > limit:
                break
            command = Command(words, root.parent, log=f"{launcher}-").start()
        if time.monotonic() > limit:
            os.kill(command.pid, signal.SIGKILL)
        recorded = sum(map(len, epochs(root)))
        if done < count and recorded >= wanted:
            due = due or time.monotonic() + chance.uniform(0, 1)
            if time.monotonic() > due and hit(faults[done % len(faults)], root, command, chance):
                yield Case(f"{launcher}: {faults[done % len(faults)]} killed".replace("requeue killed", "requeued"))
                done, wanted, due = done + 1, recorded + 1, 0.0
        time.sleep(0.1)
    every = list(range(EPOCHS * count))
    for one in epochs(root):
        yield Case(f"{launcher}: a cell", "" if one == every else f"recorded epochs {one}")
    complete = all(one == every for one in epochs(root))
    same = "" if command.out == expected and complete else f"another table: {command.out}"
    missed = "" if done == count else f"{done} of {count} faults happened"
    yield Case(f"{launcher}: the table", command.ended(0) or same or missed)
