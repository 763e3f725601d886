"""What the benchmarks share: interleaved timing, facts about the machine, and where results go."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Timing = dict[str, float]


def interleaved(work: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3) -> dict[str, Timing]:
    """Seconds of each piece of work, one after the other in every round, so that a machine that drifts does so for all.

    Returns:
        Name -> median, quartiles and minimum over the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(-warm, rounds):
        for name, run in work.items():
            begin = time.perf_counter()
            run()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: spread(values) for name, values in seconds.items()}


def spread(values: list[float]) -> Timing:
    """Median, quartiles and minimum."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "min": min(values), "n": len(values)}


def machine() -> dict[str, Any]:
    """Processor, cores, versions, and the command that was typed."""
    return {
        "command": "python -m benchmarks." + Path(sys.argv[0]).stem + "".join(f" {word}" for word in sys.argv[1:]),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "torch", "tonic", "lsg")},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(name: str, record: Mapping[str, Any]) -> Path:
    """Keep a record as ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path
