"""The library that compiles charts, called in a process of its own.

It has threads, and without them, in a process forked from one that has called it, waits without end. So no process calls it
itself: each starts one that does, at its first chart, and uses it for all others.
"""

import atexit
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from lsgcli.errors import LsgError
from lsgcli.report import compiler_process

TIMEOUT = 300.0  # seconds; a large chart takes a few


class Compiler:
    """Functions of ``vl_convert``, by name, called in a process that starts at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What a function returns.

        Raises:
            LsgError: it raises an error, or its process cannot be started, ends, or does not answer.
        """
        with self._lock:
            try:
                self._running = self._running or _start()
                connection = self._running[1]
                connection.send((name, arguments, named))
                if not connection.poll(TIMEOUT):
                    raise TimeoutError(f"no answer within {TIMEOUT:g} s")
                answer = connection.recv()
            except (OSError, EOFError) as error:
                status = self.stop()
                reason = str(error) or f"it ended with status {status}"
                raise LsgError(
                    f"chart: found no answer of the process that compiles it ({reason}), expected a picture",
                    "Make sure that one more process, of 100 MB, may run here, and repeat the command.",
                ) from error
            except BaseException:  # such as Ctrl-C: the answer that is still to come would be taken for that of the next call
                self.stop()
                raise
        if isinstance(answer, Exception):
            # Lines that begin with "at" are the library's stack.
            reason = str(answer).partition("\n    at ")[0]
            message = f"chart: found one that cannot be compiled, expected valid Vega-Lite: {reason}"
            raise LsgError(message.replace("\n", " ")) from answer
        return answer

    def stop(self) -> int | None:
        """End the process, if there is one, and return its status. The next call starts another."""
        if self._running is None:
            return None
        process, connection = self._running
        self._running = None
        connection.close()
        process.kill()
        return process.wait()

    def _forget(self) -> None:
        """Leave the process to the parent of this one, which was forked."""
        if self._running is not None:
            process, connection = self._running
            connection.close()
            process.returncode = 0  # otherwise it would warn that it still runs
        self._running = None
        self._lock = threading.Lock()  # a thread that this process does not have may hold the other


def _start() -> tuple[subprocess.Popen[bytes], Connection]:
    """A new process, which no signal of this one's terminal reaches, and the connection to it."""
    ours, theirs = Pipe()
    words = [sys.executable or "python3", "-I", "-S", compiler_process.__file__, *sys.path]
    with theirs:
        process = subprocess.Popen(
            words, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    return process, ours


compile_with = Compiler()
