"""Statistics of rounds, facts about the machine, and processes that end with their parent."""

import contextlib
import ctypes
import platform
import random
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsgcli.system import cpus, memory
from lsgcli.system.interpreter import version_of

PR_SET_PDEATHSIG = 1  # from the kernel's prctl.h
Timing = dict[str, float]


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
    """Processor, cores, memory, and versions, including those of installed ``packages``."""
    return {
        "processor": _processor(),
        "cores": cpus.usable(())[0],
        "memory_bytes": memory.total_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: found for name in ("numpy", "torch", "tonic", "lsgcli", *packages) if (found := version_of(name))},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def end_with_parent() -> None:
    """Let the kernel, if it is Linux, kill this process when its parent dies."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def kilobytes(path: str, key: str) -> int:
    """A value of a file such as ``/proc/self/status``.

    Raises:
        OSError: there is no such file, as on systems other than Linux.
    """
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def resident_bytes(key: str = "VmHWM") -> int:
    """Memory of this process in bytes: its peak, or with ``VmRSS`` now; without ``/proc``, always the peak."""
    try:
        return 1024 * kilobytes("/proc/self/status", key)
    except OSError:
        return memory.peak_bytes()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
