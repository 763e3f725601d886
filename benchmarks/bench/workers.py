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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from lsgcli.errors import LsgError, OutOfMemoryError, error_of

PROCESS = "benchmarks.bench.contender"


def inherited() -> dict[str, str]:
    """The environment without the wait policy that commands of lsg set, see :func:`lsgcli.system.cpus.wait_passively`."""
    return {name: value for name, value in os.environ.items() if (name, value) != ("OMP_WAIT_POLICY", "PASSIVE")}


class Process(contextlib.AbstractContextManager["Process"]):
    """A process that prints a line of JSON when it is ready, and one for each line of its stdin. In between, it is stopped.

    A context manager that ends it.

    Args:
        title: what messages call it.
        command: that starts it.
        threads: that its libraries use.
        environment: of the process.
    """

    def __init__(self, title: str, command: Sequence[str], threads: int, environment: Mapping[str, str]):
        self.title = title
        pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(command, env={**environment, **pools}, **pipes)

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line."""
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # it ended; the missing answer says so
            self.process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that it prints; it is then stopped.

        Raises:
            LsgError: it reports an error, or has ended.
        """
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            status = self.process.wait()
            if status == -signal.SIGKILL:
                raise OutOfMemoryError(
                    f"{self.title}: its process was killed, probably for want of memory", hint="Use a smaller batch."
                )
            found = f"{self.title}: its process ended with status {status}, expected an answer"
            raise LsgError(found, hint="See its output above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise error_of(answer["status"])(f"{self.title}: {answer['error']}")
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Worker(Process):
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
