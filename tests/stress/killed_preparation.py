"""SIGKILL `lsg data prepare` at random moments: `python -m tests.stress.killed_preparation FOLDER`, some minutes.

FOLDER holds recordings in the layout of CIFAR10-DVS with a SHA256SUMS, as `lsg data simulate` writes them. After each kill, the
next run must complete, with as many recordings of each class as the manifest lists and the bits of an undisturbed run; and what
the killed one left must not look finished.
"""

import argparse
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

import numpy as np

from lsgcli.data import manifest

Parts = dict[str, tuple[dict[str, int], bytes]]


def command(folder: Path, cache: Path) -> list[str]:
    """The command that is killed."""
    where = ["--dataset", "cifar-dvs", "--data-dir", str(folder), "--cache-dir", str(cache)]
    return [sys.executable, "-m", "lsgcli", "data", "prepare", *where, "--json", "-q"]


def prepared(folder: Path, cache: Path) -> Parts:
    """Run to the end; part -> recordings per class, and the bytes of all frames."""
    done = subprocess.run(command(folder, cache), check=True, capture_output=True, text=True)
    parts = json.loads(done.stdout)["parts"]
    return {name: (part["classes"], np.load(part["path"]).tobytes()) for name, part in parts.items()}


def listed(folder: Path) -> Counter[str]:
    """Recordings per class in the manifest."""
    names = [Path(name) for name in manifest.read(folder)]
    return Counter(name.name.split("_")[1] for name in names if name.suffix == ".aedat")


def kill(folder: Path, cache: Path, moment: float) -> bool:
    """Start, and SIGKILL after so many seconds; whether it was still running."""
    run = subprocess.Popen(command(folder, cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run.wait(moment)
    except subprocess.TimeoutExpired:
        os.kill(run.pid, signal.SIGKILL)  # of the command alone: its helpers must end by themselves
        run.wait()
        return True
    return False


def main() -> int:
    """Kill, run again, compare; print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, seen = random.Random(arguments.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as work:
        begin = time.monotonic()
        whole = prepared(arguments.folder, Path(work, "whole"))
        length = time.monotonic() - begin
        for index in range(arguments.kills):
            cache = Path(work, str(index))
            seen["killed"] += kill(arguments.folder, cache, rng.uniform(0.2, 1.0) * length)
            seen["left a part behind"] += any(cache.rglob(".partial-*"))
            seen["a part was complete"] += any(cache.rglob("[!.]*.npy"))
            after = prepared(arguments.folder, cache)
            counts = sum((Counter(classes) for classes, _ in after.values()), Counter())
            seen["next run complete"] += 1
            seen["counts as in the manifest"] += counts == listed(arguments.folder)
            seen["bits as undisturbed"] += after == whole
            seen["nothing left over"] += not any((*cache.rglob(".partial-*"), *cache.rglob("*.lock")))
    print(json.dumps({"kills": arguments.kills, "seconds_undisturbed": round(length, 1), **seen}))
    good = ("next run complete", "counts as in the manifest", "bits as undisturbed", "nothing left over")
    return 0 if all(seen[name] == arguments.kills for name in good) else 1


if __name__ == "__main__":
    sys.exit(main())
