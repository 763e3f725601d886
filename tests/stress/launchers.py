"""Kill processes of a launched ablation at random moments: `python -m tests.stress.launchers local|slurm|ray [--kills N]`.

The ablation runs in this process first, then with the launcher, while SIGKILL hits one of these again and again:

    train      the `lsg train` of a cell
    worker     its parent: the process of the launcher
    command    `lsg ablate`, which is then repeated
    requeue    (slurm) no signal: `scontrol requeue` of a running job

The table must be that of the undisturbed ablation, byte for byte, and every cell must have recorded every epoch once. A second process of a
cell, which the lock of its run refuses, can appear if the worker is killed while its `lsg train` starts; their number is recorded. `slurm`
needs a cluster that answers, such as that of tests/cluster/slurm.sh; `ray` starts one on this machine.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

LSG = [sys.executable, "-m", "lsgcli", "ablate"]
TINY = "--dataset digits-dvs --table 1 --seeds 0-2 --epochs 3 -T 2 --size 16 --width-multiplier 0.03125 --threads 1 --workers 0"
OPTIONS = {
    "local": ["--jobs", "2"],
    "slurm": ["--slurm", "time=10,cpus_per_task=1"],
    "ray": ["--ray", "address=auto,num_cpus=1"],
}


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


def hit(fault: str, root: Path, command: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Let the fault happen; returns whether there was something that it could hit."""
    if fault == "command":
        command.kill()
        command.wait()
        return True
    processes = training(root)
    if not processes:
        return False
    victim = chance.choice(sorted(processes))
    if fault == "requeue":
        with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
            variables = dict(v.split("=", 1) for v in Path(f"/proc/{victim}/environ").read_text().split("\0") if "=" in v)
            job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
            subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True)
            return True
        return False
    with contextlib.suppress(OSError):
        os.kill(victim if fault == "train" else processes[victim][0], signal.SIGKILL)
        return True
    return False


def disturb(launcher: str, root: Path, kills: int, chance: random.Random, options: list[str]) -> dict[str, object]:
    """One ablation with faults; what was seen."""
    words = [*LSG, *options, "--out", str(root), "--launcher", launcher, *OPTIONS[launcher]]
    faults = ["train", "worker", "command", *(["requeue"] if launcher == "slurm" else [])]
    done: Counter[str] = Counter()
    at_once, begin, starts = 0, time.monotonic(), 0
    log = root.with_suffix(".log").open("ab")
    while True:
        command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log)
        starts, due = starts + 1, time.monotonic() + chance.uniform(2, 8)
        while command.poll() is None:
            at_once = max([at_once, *Counter(out for _, out in training(root).values()).values()])
            if sum(done.values()) < kills and time.monotonic() > due:
                fault = faults[sum(done.values()) % len(faults)]
                done[fault] += hit(fault, root, command, chance)
                due = time.monotonic() + chance.uniform(1, 6)
            time.sleep(0.05)
        out = command.communicate()[0]
        if command.returncode != -signal.SIGKILL:
            break
    epochs = [[json.loads(line)["epoch"] for line in file.open()] for file in sorted(root.rglob("metrics.jsonl"))]
    return {
        "launcher": launcher,
        "faults": dict(done),
        "commands": starts,
        "seconds": round(time.monotonic() - begin),
        "status": command.returncode,
        "processes_of_a_cell_at_once": at_once,
        "cells": len(epochs),
        "cells_with_every_epoch_once": sum(one == list(range(len(one))) for one in epochs),
        "table": out.decode(),
    }


@contextlib.contextmanager
def cluster(launcher: str, folder: Path):
    """A Ray cluster of two CPUs on this machine, for ``ray``."""
    if launcher != "ray":
        yield
        return
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = [
        "start",
        "--head",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--temp-dir={folder}/ray",
    ]
    subprocess.run([*ray, *start], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run([*ray, "stop"], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Disturb the ablations and print what was seen, one JSON object each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("launchers", nargs="+", choices=list(OPTIONS))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", default=TINY, help="of lsg ablate")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chance, cases = random.Random(given.seed), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, options = Path(name), given.options.split()
        whole = subprocess.run([*LSG, *options, "-q", "--out", str(folder / "whole")], check=True, capture_output=True)
        for launcher in given.launchers:
            with cluster(launcher, folder):
                case = disturb(launcher, folder / launcher, given.kills, chance, options)
            same = case.pop("table") == whole.stdout.decode()
            ok = same and case["status"] == 0 and case["cells_with_every_epoch_once"] == case["cells"]
            cases.append({**case, "same_table": same, "failed": not ok})
            print(json.dumps(cases[-1]), flush=True)
            if not ok:
                print((folder / f"{launcher}.log").read_text(), file=sys.stderr)
    if given.json:
        record = {
            "command": f"python -m tests.stress.launchers {' '.join(given.launchers)}",
            "seed": given.seed,
            "cases": cases,
        }
        given.json.write_text(json.dumps(record, indent=2) + "\n")
    return int(any(case["failed"] for case in cases))


if __name__ == "__main__":
    sys.exit(main())
