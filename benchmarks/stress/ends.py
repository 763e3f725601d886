"""The row of processes that trained together, at their end: the interpreter must not end while a thread holds its objects.

`python -m benchmarks.stress.ends FOLDER COUNT` makes many ends: it imports torch once, and forks the ranks of each run. Each leaves as a command
does, through the interpreter's finalisation, which :func:`benchmarks.stress.rows.fork` skips.
"""

import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stress.program import Command, warm
from benchmarks.stress.ranks import environments
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import at
from lsgcli.training import distributed

RUN = shlex.split(
    "--dataset image-folder --arch mlp -T 2 --size 8 --width-multiplier 0.03125 --batch-size 8 --epochs 1 --threads 1 --workers 0 -q"
)
TYPED = 25  # runs, of which one is started by `lsg train --devices`
LIMIT = 600  # seconds of such a run


def last_in_line() -> None:
    """Let Gloo's threads run only where nothing else does, so that they often lag behind the end of a collective."""

    def lower(*_: object) -> None:
        for thread in Path("/proc/self/task").iterdir():
            if "gloo" in (thread / "comm").read_text():
                os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))

    at(distributed.ProcessGroup, "wrap", lower)


def main() -> None:
    """Train so many times; in a forked process, as one of the ranks, and return."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    words = warm(folder, RUN, count=8, test=2, size=8)
    import torch._dynamo
    import torch.distributed.nn  # noqa: F401 (both take seconds)

    for number in range(count):
        size, slow, pids = 2 + number % 2, number % 4 > 1, []
        for rank, variables in enumerate(environments(size)):
            before = last_in_line if slow else lambda: None
            command = Command([*words, "--out", f"run{number}"], folder, variables, before, log=f"{number}-{rank}-")
            if not (pid := os.fork()):
                return command._run()
            pids.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        errors = "".join((folder / f"{number}-{rank}-stderr").read_text() for rank in range(size))
        good = statuses == [0] * size and (folder / f"{number}-0-stdout").read_text() == f"run{number}/best.safetensors\n"
        kind = f"{size} ranks" + ", their threads starved" * slow
        print(json.dumps([kind, "" if good else f"statuses {statuses}: {errors[-300:]}"]), flush=True)


@row(
    57,
    fault="several ranks end, while a thread of their collectives has not",
    promise="status 0, after the path is printed",
    quick=2,
    full=500,
)
def ends(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg train` for one epoch in two or three processes (Gloo), forked from one that has imported torch, each of which ends its interpreter.
    In half of the runs Gloo's threads have the lowest priority, so that they still hold tensors of the last collective when the main
    thread goes on. One run of 25 is started as `lsg train --devices cpu:3`, by processes of its own."""
    words = [sys.executable, "-m", "benchmarks.stress.ends", str(folder), str(count - -(-count // TYPED))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as forks:
        assert forks.stdout is not None
        for line in forks.stdout:
            yield Case(*json.loads(line))
    if forks.returncode:
        yield Case("the process that forks", f"status {forks.returncode}")
    words = [sys.executable, "-m", "lsgcli", "train", *RUN, "--data-dir", str(folder / "data"), "--devices", "cpu:3"]
    for number in range(-(-count // TYPED)):
        out = folder / f"typed{number}"
        typed = subprocess.run([*words, "--out", out], capture_output=True, text=True, timeout=LIMIT, check=False)
        good = typed.returncode == 0 and typed.stdout == f"{out}/best.safetensors\n"
        yield Case("lsg train --devices cpu:3", "" if good else f"status {typed.returncode}: {typed.stderr[-300:]}")


if __name__ == "__main__":
    main()
