"""Requests to stop, which loops check between steps: signals, and the end of the time that a run has.

Signals set a flag; where nothing has to be saved, they interrupt.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from lsgcli.config.machine import seconds_of
from lsgcli.errors import Stopped
from lsgcli.system.ranks import end_of_job

# Sent by kill and batch systems, Ctrl-C, a closing terminal, and SLURM before a time limit (--signal=USR1@120).
NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))  # Windows has the first two


STARTED = time.monotonic()  # of a program: this module is imported at its start
TIME_IS_UP = 1000  # in place of the number of a signal
MARGIN = 60.0  # seconds before the end of a job, at least, in which a run saves its state


def reason(code: int) -> str:
    """Why a run stopped, from :attr:`StopRequest.code`."""
    return "time is up" if code == TIME_IS_UP else f"stopped by {signal.Signals(code).name}"


@dataclass
class StopRequest:
    """Whether a signal or the end of the time requested a stop.

    Attributes:
        interrupts: whether signals also interrupt what runs; see :meth:`at_once`.
        started: when the time of the run began, as ``time.monotonic()``.
        deadline: when the time given by :meth:`limit` ends; ``end_of_job``: when the process will be killed.
        longest: seconds of the longest step, evaluation, ... so far; see :meth:`timing`.
    """

    signal_name: str | None = None
    interrupts: bool = False
    started: float = field(default_factory=lambda: time.monotonic())
    deadline: float = math.inf
    end_of_job: float = math.inf
    longest: dict[str, float] = field(default_factory=dict)

    def limit(self, max_time: str | None, environment: Mapping[str, str] = os.environ) -> None:
        """Set the time of the run: ``max_time``, such as 3h30m, from its start, and under SLURM until the end of the job."""
        self.deadline = self.started + seconds_of(max_time) if max_time else math.inf
        self.end_of_job = time.monotonic() + end_of_job(environment) - time.time()

    @contextmanager
    def timing(self, work: str) -> Iterator[None]:
        """Context of work that is not interrupted; the longest of each kind must fit between a stop and the end of the job."""
        begin = time.monotonic()
        yield
        self.longest[work] = max(self.longest.get(work, 0.0), time.monotonic() - begin)

    @property
    def code(self) -> int:
        """Number of the signal, :data:`TIME_IS_UP`, or 0. Time counts after the first step, so that each process makes progress."""
        if self.signal_name is not None:
            return int(signal.Signals[self.signal_name])
        if not self.longest:
            return 0
        margin = max(MARGIN, sum(self.longest.values()))
        return TIME_IS_UP if time.monotonic() >= min(self.deadline, self.end_of_job - margin) else 0

    def __bool__(self) -> bool:
        return self.code != 0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context in which a signal interrupts immediately, for work that waits, or that takes long and can be repeated.

        Raises:
            Stopped: a signal requested a stop, before or in the block, or the time was up before.
        """
        self.interrupts = True
        try:
            if self:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            if not self:
                raise
            raise Stopped(reason(self.code), hint="Repeat the command to continue.") from None
        finally:
            self.interrupts = False


@contextmanager
def stop_on_signals(interrupt: bool = True) -> Iterator[StopRequest]:
    """Context in which each of :data:`SIGNALS` only sets a flag, outside :meth:`StopRequest.at_once`; a second SIGINT interrupts
    immediately, with ``interrupt``.

    An ignored SIGHUP stays ignored, so that ``nohup lsg train`` survives it.
    """
    request = StopRequest(started=STARTED)
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream is not None and stream.isatty()]

    def note(number: int, frame: FrameType | None) -> None:
        again = request.signal_name is not None
        request.signal_name = signal.Signals(number).name
        if request.signal_name == "SIGHUP":
            _redirect_to_null([terminal for terminal in terminals if not os.isatty(terminal)])
        if request.interrupts or (interrupt and again and number == signal.SIGINT):
            raise KeyboardInterrupt

    handled = [n for n in SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _redirect_to_null(terminals: list[int]) -> None:
    """Redirect closed terminals to the null device, because an error on writing to them would end the run unsaved."""
    for terminal in terminals:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, terminal)
        os.close(nowhere)
