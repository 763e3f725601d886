"""Signals set a flag, which loops check between steps; where nothing has to be saved, they interrupt."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from lsgcli.errors import Stopped

# Sent by kill and batch systems, Ctrl-C, a closing terminal, and SLURM before a time limit (--signal=USR1@120).
NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))  # Windows has the first two


@dataclass
class StopRequest:
    """Whether a signal requested a stop, and which one.

    Attributes:
        interrupts: whether signals also interrupt what runs; see :meth:`at_once`.
    """

    signal_name: str | None = None
    interrupts: bool = False

    @property
    def signal_number(self) -> int:
        """Number of the signal, or 0."""
        return 0 if self.signal_name is None else int(signal.Signals[self.signal_name])

    def __bool__(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context in which a signal interrupts immediately, for work that waits, or that takes long and can be repeated.

        Raises:
            Stopped: a signal requested a stop, before or in the block.
        """
        self.interrupts = True
        try:
            if self:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            if not self:
                raise
            raise Stopped(f"stopped by {self.signal_name}", hint="Repeat the command to continue.") from None
        finally:
            self.interrupts = False


@contextmanager
def stop_on_signals(interrupt: bool = True) -> Iterator[StopRequest]:
    """Context in which each of :data:`SIGNALS` only sets a flag, outside :meth:`StopRequest.at_once`; a second SIGINT interrupts
    immediately, with ``interrupt``.

    An ignored SIGHUP stays ignored, so that ``nohup lsg train`` survives it.
    """
    request = StopRequest()
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream is not None and stream.isatty()]

    def note(number: int, frame: FrameType | None) -> None:
        again, request.signal_name = bool(request), signal.Signals(number).name
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
