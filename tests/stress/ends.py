"""Many ends of processes that trained together: `python -m tests.stress.ends FOLDER COUNT SIZE`.

Processes are forked from one that has imported torch, so that a run takes a second; each leaves the interpreter as a command does, with
its finalisation, which `os._exit` in :func:`tests.stress.rows.fork` skips. Prints the statuses of the ranks of each run as a JSON line.
"""

import json
import os
import sys
from pathlib import Path

from tests.stress.program import Command, warm
from tests.stress.ranks import environments


def main() -> None:
    """Train so many times on so many ranks; in a forked process, train as one of them and return."""
    folder, count, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    words = warm(folder)
    for number in range(count):
        pids = []
        for rank, variables in enumerate(environments(size)):
            command = Command([*words, "--epochs", "1", "--out", f"run{number}"], folder, variables, log=f"{number}-{rank}-")
            if not (pid := os.fork()):
                return command._run()
            pids.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
