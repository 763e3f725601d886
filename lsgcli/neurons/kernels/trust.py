"""Trust at first use: kernels that are compiled for a device are tested on it, once, before ``auto`` uses them.

The self-test runs in a process of its own, which kernels may crash, and whose autocast, hooks and captures are its own. Its result is kept in
the cache folder, in a file for each card, driver and version of torch, the compiler, lsg and its kernels.
"""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch

from lsgcli import registry
from lsgcli.errors import LsgError, StorageError
from lsgcli.neurons.kernels.selftest import TOLERANCE, Result, compare
from lsgcli.system import files, interpreter, schema

log = logging.getLogger("lsg")
PROCESS = "lsgcli.neurons.kernels.selftest"
LIMIT = 600.0  # seconds


class Record(TypedDict):
    """The content of a file: under which conditions which backend was tested, and what was wrong first, if anything."""

    backend: str
    conditions: str
    failure: str


class Kept(NamedTuple):
    """Conditions on a device, and the file that keeps the result of a self-test under them."""

    conditions: str
    path: Path

    def failure(self) -> str | None:
        """What was wrong, empty if nothing was; None if there is no readable file."""
        try:
            return schema.read(self.path, Record, StorageError)["failure"]
        except LsgError:
            return None

    def write(self, name: str, failure: str) -> None:
        """Keep a result."""
        files.write_json(self.path, Record(backend=name, conditions=self.conditions, failure=failure))


@cache
def trusted(name: str, device: torch.device) -> bool:
    """Whether ``auto`` may use a backend on a device: at first use the result of its self-test; a warning is logged if it failed.

    Of several processes, one runs the self-test, and the others wait for its result. If the cache folder cannot be written, each does.
    """
    kept = _kept(name, device)
    if kept is None:
        return True
    failure = kept.failure()
    if failure is None:
        failure = _first_use(name, device, kept)
    if failure:
        log.warning(
            "the kernels of %s are not used on %s, because their self-test failed:\n  %s, expected that of reference within %g\n"
            "  Training continues with the slower reference. Please report this with the output of `lsg doctor`, which repeats the "
            "test; --backend %s uses the kernels all the same.",
            *(name, kept.conditions, failure, TOLERANCE, name),
        )
    return not failure


def examined(name: str, device: torch.device) -> list[Result]:
    """Results of the self-test of a backend, run now and kept for :func:`trusted`."""
    kept = _kept(name, device)
    if kept is None:
        return list(compare(name, device))
    results = _in_a_process(name, device)
    try:
        files.make_folder(kept.path.parent)
        kept.write(name, _first_failure(results))
    except StorageError as error:
        log.warning("%s", error.message)
    return results


def _first_use(name: str, device: torch.device, kept: Kept) -> str:
    """What is wrong, after the self-test of this process or of another one."""
    failure = None
    try:
        files.make_folder(kept.path.parent)
        with files.locked(kept.path.with_suffix(".lock"), f"waiting for another process that tests the kernels of {name}"):
            if (failure := kept.failure()) is None:
                log.info("testing the kernels of %s on %s (once); kept in %s", name, kept.conditions, kept.path)
                failure = _first_failure(_in_a_process(name, device))
                kept.write(name, failure)
    except StorageError as error:
        log.warning("%s\n  The kernels of %s are tested in every run.", error.message, name)
    return _first_failure(_in_a_process(name, device)) if failure is None else failure


def _first_failure(results: list[Result]) -> str:
    return next((result.failure for result in results if result.failure), "")


def _kept(name: str, device: torch.device) -> Kept | None:
    """Where the result of a backend on a device is kept; None if it has no kernels compiled for the device."""
    conditions = registry.get("backend", name).conditions(device)
    if not conditions:
        return None
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    key = hashlib.sha256(f"{name} {conditions} ".encode() + sources).hexdigest()[:12]
    return Kept(conditions, files.user_cache() / "kernels" / f"tested-{key}.json")


def _in_a_process(name: str, device: torch.device) -> list[Result]:
    """Results of the cases up to the first that ended the process; in this process, if a new one cannot use the device."""
    words = interpreter.command(PROCESS, name, str(device))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    output, problem = b"", ""
    try:
        done = subprocess.run(words, capture_output=True, env=environment, timeout=LIMIT, check=False)
        output, status = done.stdout, done.returncode
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        problem = (
            f"process ended by {signal.Signals(-status).name}" if status < 0 else f"process ended with status {status}: {said}"
        )
    except subprocess.TimeoutExpired as error:
        output, problem = error.stdout or b"", f"no result after {LIMIT:g} s"
    except OSError as error:  # no interpreter, as in a program that embeds Python
        log.debug("%s: %s", words[0], error)
    lines: list[Any] = [json.loads(line) for line in output.splitlines()]
    if not lines:
        return list(compare(name, device))
    names, results = lines[0], [Result(*line) for line in lines[1:]]
    if len(results) < len(names):
        case = names[len(results)]
        results.append(Result(case, None, f"{case}: {problem}"))
    return results
