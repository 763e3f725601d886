"""Commands of ``lsg`` in forked processes: torch is imported once, in the parent, which must not compute."""

import contextlib
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch  # noqa: F401 (before any fork)
from PIL import Image
from typer.testing import CliRunner

import lsgcli.checkpoint
import lsgcli.cli.app
import lsgcli.cli.predict
import lsgcli.cli.train
import lsgcli.prediction
import lsgcli.report.predictions
import lsgcli.report.terminal
import lsgcli.run
import lsgcli.streaming
from lsgcli import ranks
from tests.stress.rows import fork

TINY = shlex.split(
    "--dataset image-folder --arch vggsnn -T 2 --size 16 --width-multiplier 0.03125 --epochs 2 --batch-size 8 --precision fp32 "
    "--backend reference --workers 0 --threads 1"
)
cache: dict[str, str] = {}  # variables of commands
LIMIT = 300.0  # seconds of a command that does not hang


@dataclass
class Command:
    """A command that runs in a process of its own, in the folder ``at``.

    Attributes:
        status: exit status, negative for a signal, None while it runs.
        seconds: until its end.
    """

    words: list[str]
    at: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)  # None removes a variable
    before: Callable[[], object] = lambda: None  # called in the process
    stdin: int | None = None  # a descriptor; default: an empty file
    stdout: str | None = None  # a file to append to; default: a new one in ``at``
    log: str = ""  # prefix of the files of stdout and stderr in ``at``
    status: int | None = None
    seconds: float = 0.0

    def start(self) -> "Command":
        """Start the process."""
        self.at.mkdir(parents=True, exist_ok=True)
        self.begin = time.monotonic()
        self.pid = fork(self._run)
        return self

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self.status is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.status, self.seconds = os.waitstatus_to_exitcode(ended[1]), time.monotonic() - self.begin
        return self.status

    def wait(self, limit: float = LIMIT) -> int:
        """Wait for its end; kills it after ``limit`` seconds, for status -9."""
        until = time.monotonic() + limit
        while self.poll() is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.03)
        return self.status or 0

    def run(self, limit: float = LIMIT) -> "Command":
        """Start it and wait for its end."""
        self.start().wait(limit)
        return self

    @property
    def out(self) -> str:
        """What it wrote to stdout."""
        return Path(self.stdout or self.at / f"{self.log}stdout").read_text(errors="surrogateescape")

    @property
    def err(self) -> str:
        """What it wrote to stderr."""
        return (self.at / f"{self.log}stderr").read_text(errors="surrogateescape")

    def ended(self, status: int, *parts: str) -> str:
        """The problem, if it did not end with this status, in good order, and with these parts in its messages."""
        if self.status != status:
            return f"status {self.status}, expected {status}: {self.err[-300:]}"
        if "Traceback" in self.err:
            return f"a traceback: {self.err[-300:]}"
        lacking = [part for part in parts if part not in self.err]
        return f"the messages lack {lacking}: {self.err[-300:]}" if lacking else ""

    def _run(self) -> None:
        for number, path in ((1, self.stdout or self.at / f"{self.log}stdout"), (2, self.at / f"{self.log}stderr")):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if path == self.stdout else os.O_TRUNC)), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if self.stdin is None else self.stdin, 0)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115 (until the process ends)
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
        for name, value in {**cache, **self.environment}.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        ranks.here.cache_clear()
        os.chdir(self.at)
        sys.argv = ["lsg", *self.words]
        status: object = 0
        try:
            self.before()
            lsgcli.cli.app.main()
        except SystemExit as error:
            status = error.code or 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # a full disk, a closed pipe
                    stream.flush()
        os._exit(status if isinstance(status, int) else 1)


def images(root: Path, count: int = 16, test: int = 6, size: int = 16, noise: int = 120, colour: int = 120) -> Path:
    """An image folder of three classes.

    Args:
        root: new folder.
        count, test: training and test images of each class.
        size: height and width.
        noise: pixels are random below this, plus ``colour`` in the channel of the class.
    """
    rng = np.random.default_rng(0)
    for split, n in (("train", count), ("test", test)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, noise, (size, size, 3), dtype=np.uint8)
                pixels[..., channel] += colour
                Image.fromarray(pixels).save(root / split / name / f"{index:02}.png")
    return root


def warm(words: list[str], folder: Path) -> None:
    """Run a training in this process, so that forked ones need not import what it imports late; from then on, caches are in ``folder``."""
    cache["XDG_CACHE_HOME"] = str(folder / "cache")
    result = CliRunner().invoke(lsgcli.cli.app.app, [*words, "--out", str(folder / "warm")], env=cache)
    assert result.exit_code == 0, result.stderr
    logging.getLogger("lsg").handlers.clear()


def tensors(run: Path) -> dict[str, bytes]:
    """The bits of the last checkpoint of a run."""
    content = lsgcli.checkpoint.read(run / "last.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in {**content.weights, **content.extra}.items()}
