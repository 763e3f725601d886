"""Contenders in separate processes (``contender``) that run in turns.

Each contender is a new interpreter with the same number of threads. It builds its network and waits. Between its turns it is stopped
(SIGSTOP), so that idle threads of its libraries do not affect other contenders, and all use the thread settings of their libraries.

Peak memory is that of the process (VmHWM), including interpreter and libraries.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from lsgcli.errors import LsgError, OutOfMemoryError, error_of

PROCESS = "benchmarks.bench.contender"


def inherited() -> dict[str, str]:
    """The environment without the wait policy that commands of lsg set, see :func:`lsgcli.system.cpus.wait_passively`."""
    return {name: value for name, value in os.environ.items() if (name, value) != ("OMP_WAIT_POLICY", "PASSIVE")}


class Worker(contextlib.AbstractContextManager["Worker"]):
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
        pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**inherited(), **pools, **(environment or {}), "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    def ready(self) -> dict[str, Any]:
        """Wait until it is built, and stop it."""
        return self._answer()

    def turn(self, steps: int = 1) -> dict[str, Any]:
        """Let it run some steps: seconds of each, the peak in bytes."""
        return self.ask(f"{PROCESS}:steps", count=steps)

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Let it do a task, ``module:function`` of the prepared contender."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it ended; the missing answer says so
            self.process.stdin.write(json.dumps({"task": task, "arguments": arguments}) + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            if status == -signal.SIGKILL:
                raise OutOfMemoryError(
                    f"{self}: its process was killed, probably for want of memory", hint="Use a smaller batch."
                )
            raise LsgError(f"{self}: its process ended with status {status}, expected an answer", hint="See its output above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise error_of(answer["status"])(f"{self}: {answer['error']}")
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
