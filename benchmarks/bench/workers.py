"""Contenders in separate processes (``contender``) that run in turns.

Each contender is a new interpreter with the same number of threads. It builds its network and waits. Between its turns it is stopped
(SIGSTOP), so that idle threads of its libraries do not affect other contenders, and all use the thread settings of their libraries.

Peak memory is that of the process (VmHWM), including interpreter and libraries.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from lsgcli.sweeps import bench

PROCESS = "benchmarks.bench.contender"


def inherited() -> dict[str, str]:
    """The environment without the wait policy that commands of lsg set, see :func:`lsgcli.system.cpus.wait_passively`."""
    return {name: value for name, value in os.environ.items() if (name, value) != ("OMP_WAIT_POLICY", "PASSIVE")}


class Worker(bench.Worker):
    """A contender's process; a context manager that ends it.

    Args:
        name: of the contender.
        precision: ``fp32``, ``bf16`` (autocast), or ``int8`` (inference of lsg).
        case: what it runs.
        threads: that it may use.
        environment: variables beside those of this process.
    """

    def __init__(self, name: str, precision: str, case: Case, threads: int, environment: Mapping[str, str] | None = None):
        self.name, self.precision = name, precision
        contender = CONTENDERS[name]._asdict()
        job = {"contender": contender, "precision": precision, "case": dataclasses.asdict(case), "threads": threads}
        variables = {**inherited(), **(environment or {}), "PYTHONPATH": str(Path(__file__).parents[2])}
        super().__init__(f"{name} {precision}", [sys.executable, "-m", PROCESS, json.dumps(job)], threads, variables)

    def __str__(self) -> str:
        return self.title

    def ready(self) -> dict[str, Any]:
        """Wait until it is built, and stop it."""
        return self.answer()

    def turn(self, steps: int = 1) -> dict[str, Any]:
        """Let it run some steps: seconds of each, the peak in bytes."""
        return self.task(f"{PROCESS}:steps", count=steps)

    def task(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Let it do a task, ``module:function`` of the prepared contender."""
        return self.ask(json.dumps({"task": task, "arguments": arguments}))
