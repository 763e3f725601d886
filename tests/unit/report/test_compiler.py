"""The process that compiles charts: after a fork, a crash, an interruption, and at the end."""

import os
import signal
import time

from lsgcli.report.drawing import svg

CHART = {
    "description": "a point",
    "data": {"values": [{"x": 1, "y": 2}]},
    "mark": "circle",
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}},
}
LIMIT = 60.0  # seconds until a process counts as hanging


def status_of(pid):
    """Exit status of a child; kills one that hangs."""
    until = time.monotonic() + LIMIT
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])


def test_a_forked_process_draws_the_same():
    drawn = svg(CHART)
    pid = os.fork()
    if pid == 0:
        try:
            same = svg(CHART) == drawn
        finally:
            os._exit(0 if same else 1)
    assert status_of(pid) == 0
    assert svg(CHART) == drawn
