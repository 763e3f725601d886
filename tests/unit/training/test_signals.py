"""Signals become a flag, and interrupt only where nothing has to be saved."""

import fcntl
import os
import signal
import threading
import time

import pytest

from lsgcli.errors import Stopped
from lsgcli.system import files
from lsgcli.training.signals import SIGNALS, TIME_IS_UP, StopRequest, reason, stop_on_signals


@pytest.fixture(autouse=True)
def in_a_terminal():
    """``nohup pytest`` makes tests ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_what_waits(number, tmp_path):
    """Waiting for a lock that another holds, which otherwise only its release would end."""
    with open(tmp_path / "lock", "w") as held, stop_on_signals() as stop:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Stopped, match=f"stopped by {number.name}\n  Repeat"), stop.at_once():  # noqa: SIM117
            with files.locked(tmp_path / "lock", "waiting"):
                pass


def test_a_signal_before_or_after():
    with stop_on_signals() as stop:
        with stop.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_name == "SIGTERM"
        reached = False
        with pytest.raises(Stopped), stop.at_once():
            reached = True
        assert not reached


def test_the_time_of_a_run_and_of_its_job(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "time", lambda: clock[0] + 1e9)

    def up_after(max_time, environment, step=1.0, **longest):
        """Seconds after which the time is up."""
        clock[0] = 1000.0
        stop = StopRequest(longest={"step": step, **longest} if step else {})
        stop.limit(max_time, environment)
        while not stop and clock[0] < 30_000:
            clock[0] += 10
        assert stop.code in (0, TIME_IS_UP)
        return clock[0] - 1000

    job = {"SLURM_JOB_END_TIME": str(int(1e9) + 8200)}
    assert up_after("1h30m", {}) == 5400
    assert up_after("1h30m20s", job) == 5420
    assert up_after("20s", {}, step=0) == 29_000  # before the first step
    assert up_after(None, job) == 8200 - 1000 - 60
    assert up_after("3h", job, step=20.0, evaluation=50.0, checkpoint=30.0) == 8200 - 1000 - 100
    for none in ({}, {"SLURM_JOB_END_TIME": "4294967295"}, {"SLURM_JOB_END_TIME": "1000000900"}, {"SLURM_JOB_END_TIME": "x"}):
        assert up_after(None, none) == 29_000  # no end, or one in the past
    assert reason(TIME_IS_UP) == "time is up"
    assert reason(signal.SIGUSR1) == "stopped by SIGUSR1"


def test_the_longest_of_each_kind_of_work_counts(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stop = StopRequest()
    for work, seconds in (("step", 3), ("evaluation", 40), ("step", 2), ("step", 7)):
        with stop.timing(work):
            clock[0] += seconds
    assert stop.longest == {"step": 7, "evaluation": 40}
