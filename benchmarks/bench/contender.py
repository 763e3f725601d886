"""Process of a contender, started by ``workers``: builds its network, reports it, and runs the tasks read from stdin.

A task is a function of the prepared contender, named ``module:function``; it returns what can be written as JSON.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.bench.cases import Case, Contender
from benchmarks.bench.measuring import end_with_parent, resident_bytes
from benchmarks.bench.steps import Prepared, prepare
from lsgcli.errors import LsgError


def steps(prepared: Prepared, count: int) -> dict[str, Any]:
    """Seconds of each of ``count`` steps, and peak memory in bytes: of the process, or on a GPU of its tensors."""
    if prepared.case.device == "cuda":
        return _steps_on_gpu(prepared, count)
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        prepared.step()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "peak_bytes": resident_bytes()}


def _steps_on_gpu(prepared: Prepared, count: int) -> dict[str, Any]:
    """Steps run ahead of the GPU, so all of them are timed together; memory is free for others between turns."""
    prepared.step()  # which allocates it
    prepared.wait()
    begin = time.perf_counter()
    for _ in range(count):
        prepared.step()
    prepared.wait()
    seconds = (time.perf_counter() - begin) / count
    torch.cuda.empty_cache()
    return {"seconds": [seconds] * count, "peak_bytes": torch.cuda.max_memory_allocated()}


def main() -> None:
    """Build the network and run tasks."""
    job = json.loads(sys.argv[1])
    end_with_parent()  # which may die while this process is stopped, and then nobody would end it
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end up among the answers

    def answer(found: Mapping[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")

    try:
        prepared = prepare(Contender(**job["contender"]), Case(**job["case"]), job["precision"], job["threads"])
    except LsgError as error:
        return answer({"error": error.on_command_line, "status": error.exit_code})
    on_gpu = prepared.case.device == "cuda"
    answer({"idle_bytes": torch.cuda.memory_allocated() if on_gpu else resident_bytes("VmRSS")})
    for line in sys.stdin:
        asked = json.loads(line)
        module, _, name = asked["task"].partition(":")
        answer(getattr(importlib.import_module(module), name)(prepared, **asked["arguments"]))


if __name__ == "__main__":
    main()
