"""Start-up time in new processes: help pages, imports, a dry run, and the first training step.

    python -m benchmarks.startup

"First step" is a VGGSNN at a quarter of the width, T=8, with a warm kernel cache, as in all runs except the first, and with an empty
one. For comparison, an interpreter that does nothing, and one that imports torch. No other programs should run. The record is written
to ``benchmarks/results/startup.json``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import interleaved, machine, spread, write
from benchmarks.tables import Table, show
from benchmarks.workers import ROOT, Worker, case

PRECISIONS = ("fp32", "bf16")
LIBRARIES = "import typer, rich.console, rich.table"  # what a command line of typer and rich takes before it does anything
FIRST = case("vggsnn", width=0.25, T=8)


def command(*words: str) -> Callable[[], Any]:
    """A run of Python to its end."""
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=ROOT)


def lsg(*words: str) -> Callable[[], Any]:
    """A run of lsg to its end."""
    return command("-m", "lsgcli", *words)


def first_step(precision: str, cache: Path | None = None) -> dict[str, float]:
    """Seconds until a network stands, then of its first and its third step.

    Args:
        precision: ``fp32`` or ``bf16``.
        cache: directory of compiled kernels. Default: the usual one.
    """
    begin = time.perf_counter()
    environment = {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    with Worker("lsg", precision, FIRST, len(os.sched_getaffinity(0)), environment) as worker:
        worker.ready()
        ready = time.perf_counter() - begin
        first, _, third = (worker.turn()["seconds"][0] for _ in range(3))
    return {"start and build": ready, "first step": first, "third step": third}


def tables(record: dict[str, Any]) -> list[Table]:
    """Seconds of everything."""
    table = Table("Start-up", ("", "s", "quartiles"))
    timed = {f"`{name}`": found for name, found in record["seconds"].items()}
    for precision in PRECISIONS:
        timed |= {f"{precision}, warm cache: {key}": found for key, found in record[f"warm cache, {precision}"].items()}
    for name, found in timed.items():
        table.rows.append((name, f"{found['median']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}"))
    for precision in PRECISIONS:
        table.rows.append(
            (f"{precision}, empty cache: first step", f"{record[f'empty cache, {precision}']['first step']:.3f}", "")
        )
    return [table]


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 rounds: a look, kept under another name")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    record: dict[str, Any] = {"machine": machine("numba")}
    with tempfile.TemporaryDirectory() as folder:
        dry = ("train", "--dry-run", "--cache-dir", str(Path(folder) / "cache"), "--quiet")
        record["seconds"] = interleaved(
            {
                "python -c pass": command("-c", "pass"),
                "python -c 'import torch'": command("-c", "import torch"),
                "python -c 'import lsgcli.models, lsgcli.neurons'": command("-c", "import lsgcli.models, lsgcli.neurons"),
                f"python -c '{LIBRARIES}'": command("-c", LIBRARIES),
                "lsg --help": lsg("--help"),
                "lsg train --help": lsg("train", "--help"),
                "lsg train --dry-run, data prepared": lsg(*dry),
            },
            rounds=rounds,
            warm=1,
        )
        for precision in PRECISIONS:
            first_step(precision)  # fills the cache
            runs = [first_step(precision) for _ in range(rounds)]
            record[f"warm cache, {precision}"] = {key: spread([run[key] for run in runs]) for key in runs[0]}
            record[f"empty cache, {precision}"] = first_step(precision, Path(folder) / precision)
    show(tables(record))
    print(write("startup-quick" if options.quick else "startup", record), file=sys.stderr)


if __name__ == "__main__":
    main()
