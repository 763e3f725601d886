"""Kill lsg ablate at random moments, without warning, and see that nothing changes: `python -m tests.stress.killed_ablation`, some minutes.

Two processes share an ablation. Both are killed (SIGKILL) after a random while and started again, until they finish; the table must be
that of an undisturbed ablation, to the last digit.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LSG = [sys.executable, "-m", "lsgcli", "ablate", "-q", "--json"]


def start(folder: Path, options: list[str]) -> subprocess.Popen[str]:
    """An ablation as a process of its own."""
    command = [*LSG, *options, "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    """What a process that ended by itself printed."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    found: list[dict[str, object]] = json.loads(out)["rows"]
    return found


def states(folder: Path) -> dict[str, int]:
    """How far the cells were when the processes died."""
    begun = {file.parent for file in folder.rglob("config.json")}
    known = {file.parent for file in folder.rglob("last.safetensors")}
    finished = {file.parent for file in folder.rglob("result.json")}
    return {
        "finished": len(finished),
        "stopped": len(known - finished),
        "before_the_first_checkpoint": len(begun - known - finished),
        "half_written_files": len(list(folder.rglob(".partial-*"))),
    }


def newest(folder: Path) -> float:
    """When anything was last written in the runs of a folder."""
    times = []
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # partial files come and go
            times.append(file.stat().st_mtime)
    return max(times, default=0.0)


def kill_and_start_again(folder: Path, times: int, rng: random.Random, options: list[str]) -> dict[str, object]:
    """Kill both processes ``times`` times, or until all is done."""
    begin = time.monotonic()
    expected = rows(start(folder / "whole", options))
    n, seen = states(folder / "whole")["finished"], []
    cell = (time.monotonic() - begin) / n
    for _ in range(times):
        before = newest(folder / "parts")
        pair = [start(folder / "parts", options) for _ in range(2)]
        while newest(folder / "parts") == before and any(process.poll() is None for process in pair):
            time.sleep(0.01)  # until they have loaded, and write
        time.sleep(rng.uniform(0, 1.5 * cell))  # the first step of a process takes longer than others
        for process in pair:
            process.kill()
        for process in pair:
            process.communicate()
        seen.append(states(folder / "parts"))
        if seen[-1]["finished"] == n:
            break
    pair = [start(folder / "parts", options) for _ in range(2)]
    return {"kills": len(seen), "equal": [rows(process) == expected for process in pair], "when_killed": seen}


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    tiny = "--width-multiplier 0.03125 -T 2 --epochs 6 --seeds 0-2 --threads 1 --workers 0"
    parser.add_argument("options", nargs="*", default=tiny.split(), help="of lsg ablate")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = kill_and_start_again(Path(folder), arguments.kills, random.Random(arguments.seed), arguments.options)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
