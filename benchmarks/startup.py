"""Start-up time in new processes: help pages, imports, a dry run, and the first training step.

    python -m benchmarks.startup
    python -m benchmarks.startup --commands

Of commands, CPU time is measured, user and system, which other programs affect less; ``--commands`` measures only these, on a machine in
use, and writes ``startup-commands.json``. "First step" is a VGGSNN at a quarter of the channels, T=8, with a warm kernel cache, as in all runs except the first, and with an empty
one, in seconds of a machine that runs nothing else. For comparison, an interpreter that does nothing, and one that imports torch. The record
is written to ``benchmarks/results/startup.json``.
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

from benchmarks.bench.cases import case
from benchmarks.bench.measuring import spread
from benchmarks.bench.workers import Worker
from benchmarks.measuring import ROOT, interleaved, machine, of_children, write
from benchmarks.tables import Table, show

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
    """CPU seconds of commands, and seconds of first steps, whichever the record has."""
    commands = Table("CPU time of commands", ("", "minimum, s", "median", "quartiles"))
    for name, found in record.get("cpu", {}).items():
        low, middle, *quartiles = (f"{found[key]:.3f}" for key in ("min", "median", "low", "high"))
        commands.rows.append((f"`{name}`", low, middle, " to ".join(quartiles)))
    steps = Table("First step", ("", "s", "quartiles"))
    for precision in (name for name in PRECISIONS if f"warm cache, {name}" in record):
        for key, found in record[f"warm cache, {precision}"].items():
            span = f"{found['low']:.3f} to {found['high']:.3f}"
            steps.rows.append((f"{precision}, warm cache: {key}", f"{found['median']:.3f}", span))
        steps.rows.append(
            (f"{precision}, empty cache: first step", f"{record[f'empty cache, {precision}']['first step']:.3f}", "")
        )
    return [table for table in (commands, steps) if table.rows]


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 rounds: a look, kept under another name")
    parser.add_argument("--commands", action="store_true", help="only the CPU time of commands")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    record: dict[str, Any] = {"machine": machine("numba")}
    with tempfile.TemporaryDirectory() as folder:
        dry = ("train", "--dry-run", "--cache-dir", str(Path(folder) / "cache"), "--quiet")
        record["cpu"] = interleaved(
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
            clock=of_children,
        )
        for precision in () if options.commands else PRECISIONS:
            first_step(precision)  # fills the cache
            runs = [first_step(precision) for _ in range(rounds)]
            record[f"warm cache, {precision}"] = {key: spread([run[key] for run in runs]) for key in runs[0]}
            record[f"empty cache, {precision}"] = first_step(precision, Path(folder) / precision)
    show(tables(record))
    name = "startup-commands" if options.commands else "startup"
    print(write(f"{name}-quick" if options.quick else name, record), file=sys.stderr)


if __name__ == "__main__":
    main()
