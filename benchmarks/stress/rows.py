"""The frame of the fault table: what a row is, how it is run, and the record of a run.

A row is a decorated generator in a module of this package. It does ``count`` things that can go wrong, chosen by ``chance``, in an empty
folder, and yields a :class:`Case` for each.
"""

import contextlib
import datetime
import importlib
import inspect
import json
import os
import platform
import random
import resource
import signal
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import read_all

PACKAGES = ("torch", "numpy", "safetensors", "lsgcli")
KEPT = 20  # problems of a row that its record describes


class Case(NamedTuple):
    """What came of one fault."""

    kind: str  # of the fault; the record counts the cases of each
    problem: str = ""  # empty if the promise was kept


Body = Callable[[int, random.Random, Path], Iterator[Case]]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        peers: what comparable tools do.
        how: how it is tested.
        quick, full: ``count`` for --quick and --full.
    """

    number: int
    fault: str
    promise: str
    peers: str
    how: str
    quick: int
    full: int
    body: Body


_rows: dict[int, Row] = {}


def row(number: int, *, fault: str, promise: str, peers: str = "", quick: int = 1, full: int = 1) -> Callable[[Body], Body]:
    """Register a row; the docstring of the generator says how it is tested."""

    def decorate(body: Body) -> Body:
        assert number not in _rows, f"row {number} is there twice"
        how = " ".join((inspect.getdoc(body) or "").split())
        _rows[number] = Row(number, fault, promise, peers, how, quick, full, body)
        return body

    return decorate


def table() -> dict[int, Row]:
    for path in Path(__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f"benchmarks.stress.{path.stem}")
    return dict(sorted(_rows.items()))


def measure(one: Row, count: int, seed: int = 0, command: str = "") -> dict[str, Any]:
    """Run a row; returns its record. An exception in the row is a failure, and so is a row without cases."""
    kinds, problems, begin = Counter[str](), [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lsg-stress-", ignore_cleanup_errors=True) as folder:
        try:
            for case in one.body(count, random.Random(f"{seed} {one.number}"), Path(folder)):
                kinds[case.kind] += 1
                if case.problem:
                    problems.append(f"{case.kind}: {case.problem}"[:500])
        except Exception:
            problems.append(traceback.format_exc())
    if not kinds:
        problems.append("the row has no cases")
    return {
        "row": one.number,
        "fault": one.fault,
        "promise": one.promise,
        "how": one.how,
        "cases": kinds.total(),
        "failures": len(problems),
        "kinds": dict(kinds),
        "problems": problems[:KEPT],
        "seconds": round(time.monotonic() - begin, 1),
        "seed": seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command,
    }


def name_of(number: int) -> str:
    """The name of a row's record."""
    return f"stress-row-{number:02}"


def records() -> dict[int, dict[str, Any]]:
    found = read_all("stress")
    return {number: found[name_of(number)] for number in table() if name_of(number) in found}


# What rows share


def refused(kind: str, call: Callable[[], object], error: type[BaseException], *parts: object) -> Case:
    """The case of a call that must raise ``error`` with these parts in its message."""
    try:
        call()
    except error as caught:
        lacking = [str(part) for part in parts if str(part) not in str(caught)]
        return Case(kind, f"the message lacks {lacking}: {caught}" if lacking else "")
    except BaseException as caught:
        return Case(kind, f"{type(caught).__name__}: {caught}")
    return Case(kind, "not noticed")


def fork(work: Callable[[], object]) -> int:
    """Start ``work`` in a forked process, whose status is that of a SystemExit, or 70 after a traceback; returns its pid."""
    if pid := os.fork():
        return pid
    status = 70
    try:
        work()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def killed_after(seconds: float, pid: int) -> None:
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def forked(cases: Callable[[], Iterator[Case]]) -> Iterator[Case]:
    """The cases of a generator that runs in a forked process, which may lower its limits or drop its rights."""
    reader, writer = os.pipe()

    def send() -> None:
        os.close(reader)
        with os.fdopen(writer, "w") as stream:
            try:
                stream.writelines(json.dumps(case) + "\n" for case in cases())
            except BaseException as error:
                stream.write(json.dumps(["the process", f"{type(error).__name__}: {error}"]) + "\n")

    pid = fork(send)
    os.close(writer)
    with os.fdopen(reader) as stream:
        for line in stream:
            yield Case(*json.loads(line))
    if status := os.waitpid(pid, 0)[1]:
        yield Case("the process", f"ended with status {status}")


def limit_memory(more: int) -> None:
    """Let this process allocate ``more`` bytes of address space beyond what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextlib.contextmanager
def small_disk(folder: Path, option: str) -> Iterator[bool]:
    """A file system in memory, mounted at ``folder`` with an option that limits it; False if this user may not mount it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder]
    mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)
