"""Signals as a flag that the training loop looks at between two steps."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# Of kill and batch systems, the keyboard, a terminal that closes, and SLURM's warning before a time limit (--signal=USR1@120).
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


@dataclass
class StopRequest:
    """Whether a signal asked the run to stop, and which."""

    signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While the block runs, each of :data:`SIGNALS` only sets the flag; a second SIGINT interrupts at once.

    SIGHUP stays ignored where it is: ``nohup lsg train`` survives it.
    """
    request = StopRequest()
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream is not None and stream.isatty()]

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name
        if number == signal.SIGHUP:
            _let_go([terminal for terminal in terminals if not os.isatty(terminal)])

    heeded = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heeded}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _let_go(terminals: list[int]) -> None:
    """Send what would go to terminals that are gone nowhere: writing to them is an error, which would end the run unsaved."""
    for terminal in terminals:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, terminal)
        os.close(nowhere)
