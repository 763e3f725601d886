"""Commands of ``lsg`` in forked processes: torch is imported once, in the parent; and small trainings for them."""

import contextlib
import logging
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch  # noqa: F401 (before any fork)
from typer.testing import CliRunner

import lsgcli.cli.app
import lsgcli.cli.predict
import lsgcli.cli.train
import lsgcli.inference.predict
import lsgcli.inference.stream
import lsgcli.report.terminal
import lsgcli.runs.run
import lsgcli.store.checkpoint
from benchmarks.stress.rows import fork
from lsgcli.system import ranks
from tests.tiny import images

TINY = shlex.split(
    "--dataset image-folder --arch vggsnn -T 2 --size 16 --width-multiplier 0.03125 --epochs 2 --batch-size 8 --precision fp32 "
    "--backend reference --workers 0 --threads 1"
)
LIMIT = 300.0  # seconds of a command that does not hang
HANGS = -int(signal.SIGALRM)  # status of one that does


@dataclass
class Command:
    """A command that runs in a process of its own, in the folder ``at``, with its cache there.

    Attributes:
        status: exit status, negative for a signal, None while it runs.
        usage: processor time and memory, after its end.
    """

    words: Sequence[object]
    at: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)  # None removes a variable
    before: Callable[[], object] = lambda: None  # called in the process
    stdin: int | None = None  # a descriptor; default: an empty file
    stdout: str | None = None  # a file to append to; default: a new one in ``at``
    log: str = ""  # prefix of the files of stdout and stderr in ``at``
    status: int | None = None
    usage: resource.struct_rusage = field(init=False)

    def start(self) -> "Command":
        self.at.mkdir(parents=True, exist_ok=True)
        self.pid = fork(self._run)
        return self

    def poll(self) -> int | None:
        if self.status is None and (ended := os.wait4(self.pid, os.WNOHANG))[0]:
            self.status, self.usage = os.waitstatus_to_exitcode(ended[1]), ended[2]
        return self.status

    def wait(self, limit: float = LIMIT) -> int:
        """Wait for its end; kills it after ``limit`` seconds on the clock, for the status :data:`HANGS`."""
        until = time.monotonic() + limit
        while self.poll() is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                self.status, self.usage = HANGS, os.wait4(self.pid, 0)[2]
            time.sleep(0.02)
        return self.status or 0

    def run(self, limit: float = LIMIT) -> "Command":
        self.start().wait(limit)
        return self

    @property
    def seconds(self) -> float:
        return self.usage.ru_utime + self.usage.ru_stime

    @property
    def out(self) -> str:
        return Path(self.stdout or self.at / f"{self.log}stdout").read_text(errors="surrogateescape")

    @property
    def err(self) -> str:
        return (self.at / f"{self.log}stderr").read_text(errors="surrogateescape")

    def ended(self, status: int, *parts: object) -> str:
        """The problem, if it did not end with this status, in good order, and with these parts in its messages."""
        lacking = [str(part) for part in parts if str(part) not in self.err]
        if self.status == status and not lacking and "Traceback" not in self.err:
            return ""
        return f"status {self.status}, expected {status}; the messages lack {lacking}: {self.err[-300:]}"

    def _run(self) -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):  # a shell may have them ignored
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number, path in ((1, self.stdout or self.at / f"{self.log}stdout"), (2, self.at / f"{self.log}stderr")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if path == self.stdout else os.O_TRUNC)), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if self.stdin is None else self.stdin, 0)
        streams = ((0, "r", -1), (1, "w", -1), (2, "w", 1))  # buffered as those of Python
        sys.stdin, sys.stdout, sys.stderr = (open(*stream, closefd=False) for stream in streams)  # noqa: SIM115 (until the process ends)
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
        for name, value in {"XDG_CACHE_HOME": str(self.at / "cache"), **self.environment}.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        ranks.here.cache_clear()
        os.chdir(self.at)
        sys.argv = ["lsg", *map(str, self.words)]
        try:
            self.before()
            lsgcli.cli.app.main()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # a full disk, a closed pipe
                    stream.flush()


def warm(folder: Path, words: Sequence[str] = TINY, **of_images: int) -> list[str]:
    """The words of a training on new images in ``folder / "data"``, which has run once in this process, to ``folder / "warm"``.

    So forked processes need not import and compile what a training needs.
    """
    found = ["train", *words, "--data-dir", str(images(folder / "data", **of_images))]
    own = ["--out", str(folder / "warm"), "--cache-dir", str(folder / "cache" / "lsg")]
    result = CliRunner().invoke(lsgcli.cli.app.app, [*found, *own])
    assert result.exit_code == 0, result.stderr
    logging.getLogger("lsg").handlers.clear()
    return found


def tensors(run: Path) -> dict[str, bytes]:
    content = lsgcli.store.checkpoint.read(run / "last.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in {**content.weights, **content.extra}.items()}
