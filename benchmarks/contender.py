"""Process of a contender, started by ``benchmarks.workers``: builds its network, reports it, and runs the tasks read from stdin.

A task is a function of the prepared contender in the module of its name in ``TASKS``; it returns what can be written as JSON.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.measuring import end_with_parent, kilobytes
from benchmarks.steps import Prepared, prepare
from benchmarks.workers import CONTENDERS, Case

TASKS = {
    "steps": "contender",
    "during": "contender",
    "facts": "checking",
    "profile": "profiling",
    "inspect": "inspecting",
    "light": "inspecting",
}


def steps(prepared: Prepared, count: int) -> dict[str, Any]:
    """Seconds of each of ``count`` steps, and peak memory of the process in bytes."""
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        prepared.step()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "peak_bytes": kilobytes("/proc/self/status", "VmHWM") * 1024}


def during(prepared: Prepared, seconds: float) -> dict[str, Any]:
    """Steps until ``seconds`` have passed, one at least: how many, and the seconds that they took."""
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        prepared.step()
        count += 1
    return {"steps": count, "seconds": time.perf_counter() - begin}


def main() -> None:
    """Build the network and run tasks."""
    job = json.loads(sys.argv[1])
    end_with_parent()  # which may die while this process is stopped, and then nobody would end it
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers

    def answer(found: Mapping[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")

    prepared = prepare(CONTENDERS[job["contender"]], Case(**job["case"]), job["precision"], job["threads"])
    answer({"idle_bytes": kilobytes("/proc/self/status", "VmRSS") * 1024})
    for line in sys.stdin:
        asked = json.loads(line)
        task = getattr(importlib.import_module(f"benchmarks.{TASKS[asked['task']]}"), asked["task"])
        answer(task(prepared, **asked["arguments"]))


if __name__ == "__main__":
    main()
