"""Signals become a flag, and interrupt only where nothing has to be saved."""

import fcntl
import os
import signal
import threading
import time

import pytest

from lsgcli.errors import Stopped
from lsgcli.system import files
from lsgcli.training.signals import SIGNALS, StopRequest, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_sets_the_flag(number):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop.signal_name == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait():
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def send(number, seconds=0.1):
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_what_waits(number, tmp_path):
    """Waiting for a lock that another holds, which otherwise only its release would end."""
    with open(tmp_path / "lock", "w") as held, stop_on_signals() as stop:
        fcntl.flock(held, fcntl.LOCK_EX)
        send(number)
        begin = time.monotonic()
        with pytest.raises(Stopped, match=f"stopped by {number.name}\n  Repeat"), stop.at_once():  # noqa: SIM117
            with files.locked(tmp_path / "lock", "waiting"):
                pass
        assert time.monotonic() - begin < 2


def test_a_signal_before_or_after():
    with stop_on_signals() as stop:
        with stop.at_once():
            pass
        send(signal.SIGTERM, 0)
        time.sleep(0.3)
        assert stop.signal_name == "SIGTERM"
        reached = False
        with pytest.raises(Stopped), stop.at_once():
            reached = True
        assert not reached


def test_an_interrupt_without_a_handler_stays_one():
    with pytest.raises(KeyboardInterrupt), StopRequest().at_once():
        raise KeyboardInterrupt
