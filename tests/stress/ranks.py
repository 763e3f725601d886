"""Disturb one rank of a run at random moments: `python -m tests.stress.ranks [--moments N] [--faults ...]`, some minutes.

Each fault hits a run of `lsg train --devices cpu:2` or `cpu:3` on the embedded digits. All processes must end within 30 s, without a
hang, with the promised status; repeating the command must complete the run, with the checkpoint of an undisturbed run to the bit.

    term    SIGTERM to one rank: all stop at the same step, status 75
    kill    SIGKILL of one rank
    stop    SIGSTOP of one rank, which then hangs
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
from pathlib import Path

from lsgcli import checkpoint

COMMAND = [
    "--epochs",
    "3",
    "--width-multiplier",
    "0.03125",
    "-T",
    "2",
    "--size",
    "16",
    "--threads",
    "1",
    "--precision",
    "fp32",
    "-q",
]
SIGNALS = {"term": signal.SIGTERM, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}
LIMIT = 30.0  # seconds from the fault to the end of all processes; torchrun takes 30 s more to kill a hanging process
HANGING = 65.0


def start(out: Path, ranks: int) -> subprocess.Popen[bytes]:
    """Start a run in processes on the CPU, or continue it."""
    words = [sys.executable, "-m", "lsgcli", "train", *COMMAND, "--out", str(out)]
    return subprocess.Popen(
        [*words, *(["--devices", f"cpu:{ranks}"] if ranks > 1 else [])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def workers(launcher: int) -> dict[int, int]:
    """Process of each rank below the launcher."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            variables = dict(v.split("=", 1) for v in (folder / "environ").read_text().split("\0") if "=" in v)
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == launcher and "LOCAL_RANK" in variables:
            found[int(variables["RANK"])] = int(folder.name)
    return found


def tensors(out: Path) -> dict[str, bytes]:
    """The bits of the last checkpoint."""
    content = checkpoint.read(out / "last.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in {**content.weights, **content.extra}.items()}


def disturb(out: Path, ranks: int, fault: str, rank: int, moment: float) -> dict[str, object]:
    """One run with a fault; its status and the seconds until all processes had ended."""
    run = start(out, ranks)
    begin = time.monotonic()
    while not (out / "config.json").exists() and run.poll() is None:
        time.sleep(0.05)
    time.sleep(moment)
    there = workers(run.pid)
    hit = run.poll() is None and rank in there
    if hit:
        os.kill(there[rank], SIGNALS[fault])
    at = time.monotonic()
    limit = HANGING if fault == "stop" else LIMIT
    try:
        _, text = run.communicate(timeout=limit if hit else 300)
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
        for process in (run.pid, *there.values()):
            os.kill(process, signal.SIGKILL)
        _, text = run.communicate()
    left = [pid for pid in there.values() if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()]
    return {
        "fault": fault,
        "ranks": ranks,
        "rank": rank,
        "moment": round(at - begin, 2),
        "hit": hit,
        "status": run.returncode,
        "seconds": round(time.monotonic() - at, 2),
        "hung": hung or bool(left),
        "message": text.decode().strip().splitlines()[-2:],
    }


def main() -> int:
    """Disturb runs, complete them, compare; print one JSON object per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--faults", nargs="+", default=list(SIGNALS), choices=list(SIGNALS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chance, cases = random.Random(given.seed), []
    with tempfile.TemporaryDirectory() as folder:
        whole, lasts = {}, {}
        for ranks in (1, 2, 3):
            begin = time.monotonic()
            out = Path(folder) / f"whole{ranks}"
            assert start(out, ranks).wait(600) == 0
            whole[ranks], lasts[ranks] = tensors(out), time.monotonic() - begin
        for fault in given.faults:
            for moment in range(given.moments):
                ranks = 2 + moment % 2
                out = Path(folder) / f"{fault}{moment}"
                case = disturb(out, ranks, fault, moment % ranks, chance.uniform(0, 0.4 * lasts[ranks]))
                again = (ranks, 1, 5 - ranks)[moment % 3]  # the same number, one, the other number
                case |= {
                    "resumed_on": again,
                    "resumed": start(out, again).wait(600) if (out / "result.json").exists() is False else 0,
                }
                case["same_bits"] = tensors(out) == whole[ranks] if again == ranks or not case["hit"] else None
                expected = {"term": 75, "kill": 1, "stop": 1}[fault]
                wrong = case["hung"] or case["resumed"] != 0 or case["same_bits"] is False
                case["failed"] = bool(wrong or (case["hit"] and case["status"] not in (expected, 0, 137)))
                cases.append(case)
                print(json.dumps(case), flush=True)
    failures = sum(bool(case["failed"]) for case in cases)
    record = {"command": "python -m tests.stress.ranks", "seed": given.seed, "cases": cases, "failures": failures}
    if given.json:
        given.json.write_text(json.dumps(record, indent=2) + "\n")
    print(f"{len(cases)} cases, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
