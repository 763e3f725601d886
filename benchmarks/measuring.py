"""Shared by the benchmarks: interleaved timing, facts about the machine, and writing of results."""

import ctypes
import json
import os
import platform
import random
import re
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # from the kernel's prctl.h
RESULTS = Path(__file__).parent / "results"
Timing = dict[str, float]


def of_children() -> float:
    """CPU time of all child processes that have ended, user and system, in seconds."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def interleaved(
    work: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Time several functions alternately in each round, so that changes of the machine's speed affect all of them.

    Args:
        clock: seconds so far.

    Returns:
        Name -> median, quartiles and minimum over the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(-warm, rounds):
        for name, run in work.items():
            begin = clock()
            run()
            if round_ >= 0:
                seconds[name].append(clock() - begin)
    return {name: spread(values) for name, values in seconds.items()}


def spread(values: list[float]) -> Timing:
    """Median, quartiles and minimum."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "min": min(values), "n": len(values)}


def ratio(theirs: Sequence[float], ours: Sequence[float], draws: int = 2000) -> Timing:
    """Ratio of their time to ours, paired by rounds.

    Args:
        theirs: seconds in each round.
        ours: seconds in the same rounds.
        draws: number of bootstrap resamples of the rounds.

    Returns:
        ``ratio``, the median of the rounds' ratios; ``low`` and ``high``, its 95 % bootstrap interval; ``min`` and ``max`` of the
        rounds.
    """
    generator, rounds = random.Random(0), [a / b for a, b in zip(theirs, ours, strict=True)]
    redrawn = sorted(statistics.median(generator.choices(rounds, k=len(rounds))) for _ in range(draws))
    return {
        "ratio": statistics.median(rounds),
        "low": redrawn[int(0.025 * draws)],
        "high": redrawn[int(0.975 * draws)],
        "min": min(rounds),
        "max": max(rounds),
    }


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, versions (including installed ``packages``), and the command line."""
    return {
        "command": " ".join(["python -m benchmarks." + Path(sys.argv[0]).stem, *map(without_folders, sys.argv[1:])]),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in ("numpy", "torch", "tonic", "lsgcli", *packages) if (found := _version(name))},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def without_folders(word: str) -> str:
    """A command-line argument with absolute paths reduced to their last component, because paths depend on the machine."""
    return re.sub(r"(^|=)/\S*?([^/\s]*)/?$", r"\1.../\2", word)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def kilobytes(path: str, key: str) -> int:
    """A value of a file such as ``/proc/self/status``."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The record ``<name>.json``, if there is one."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write(name: str, record: Mapping[str, Any]) -> Path:
    """Write a record to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
