"""The process that compiles charts: after a fork, a crash, an interruption, signals, and at the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lsgcli.errors import LsgError
from lsgcli.report import compiler
from lsgcli.report.compiler import compile_with
from lsgcli.report.drawing import svg

CHART = {
    "description": "a point",
    "data": {"values": [{"x": 1, "y": 2}]},
    "mark": "circle",
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}},
}
LIMIT = 60.0  # seconds until a process counts as hanging


@pytest.fixture(scope="module")
def drawn():
    return svg(CHART)


def status_of(pid):
    """Exit status of a child; kills one that hangs."""
    until = time.monotonic() + LIMIT
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])


def test_a_forked_process_draws_the_same(drawn):
    svg(CHART)
    running = compile_with._running
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if svg(CHART) == drawn else 2
            compile_with.stop()
        finally:
            os._exit(status)
    assert status_of(pid) == 0
    assert svg(CHART) == drawn
    assert compile_with._running is running


def test_a_process_that_ends_is_an_error_and_another_follows(drawn):
    svg(CHART)
    process, _ = compile_with._running
    process.kill()
    with pytest.raises(
        LsgError, match=r"^chart: found no answer of the process that compiles it \(.*\), expected a picture\n  Make sure"
    ):
        svg(CHART)
    assert process.returncode == -signal.SIGKILL  # it was waited for
    assert svg(CHART) == drawn


def test_no_answer_in_time(drawn, monkeypatch):
    monkeypatch.setattr(compiler, "TIMEOUT", 0.0)
    with pytest.raises(LsgError, match="no answer within 0 s"):
        svg(CHART)
    monkeypatch.undo()
    assert svg(CHART) == drawn


def test_no_process_can_be_started(monkeypatch):
    compile_with.stop()
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(LsgError, match="/no/python"):
        svg(CHART)


def test_an_invalid_chart_is_an_error(drawn):
    with pytest.raises(LsgError, match=r"expected valid Vega-Lite: .*filled'\)$"):
        svg({"description": "", "mark": "none of these"})
    assert svg(CHART) == drawn


def test_an_answer_that_was_not_awaited_is_not_that_of_the_next_call(drawn, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(compiler.Connection, "poll", interrupted)
    with pytest.raises(KeyboardInterrupt):
        svg(CHART | {"description": "another", "mark": "square"})
    monkeypatch.undo()
    assert svg(CHART) == drawn


def test_signals_to_all_processes_of_a_job_do_not_end_it(drawn):
    svg(CHART)
    running = compile_with._running
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        running[0].send_signal(number)
    assert svg(CHART) == drawn
    assert compile_with._running is running
    assert os.getsid(running[0].pid) == running[0].pid  # Ctrl-C on a terminal does not reach it


def test_it_ends_with_the_interpreter(drawn):
    """Isolated, without a known interpreter, with all warnings: no ResourceWarning, nothing printed."""
    script = (
        "import sys; sys.executable = ''\n"
        "from lsgcli.report.compiler import compile_with\n"
        "from lsgcli.report.drawing import svg\n"
        f"assert svg({CHART}) == sys.stdin.read()\n"
        "print(compile_with._running[0].pid)"
    )
    words = [sys.executable, "-I", "-X", "dev", "-W", "error::ResourceWarning", "-c", script]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words, input=drawn, capture_output=True, text=True, env=os.environ | {"PATH": path}, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_it_ends_if_its_parent_is_killed():
    script = (
        "import os, signal\n"
        "from lsgcli.report.compiler import compile_with\n"
        "assert compile_with('svg_to_pdf', '<svg xmlns=\"http://www.w3.org/2000/svg\"/>')\n"
        "print(compile_with._running[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until = time.monotonic() + LIMIT
    while is_running(int(done.stdout)):
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(pid):
    """Whether a process runs, which is not a child of this one: it may have ended without having been waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
