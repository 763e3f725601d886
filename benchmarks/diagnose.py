"""Cost of ``lsg diagnose``: three training scripts with and without it, and whether they compute the same.

    python -m benchmarks.diagnose              # --rounds 5, --steps 200

In each round, every script of :mod:`benchmarks.watched` runs once as ``python SCRIPT`` and once as ``lsg diagnose SCRIPT``, the order changing from
round to round. Of a run, the time of all its steps counts, and the peak memory of its process. The record is
``diagnose``; ``--rounds 1`` only prints. No other programs should run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, machine, write
from benchmarks.tables import Table, show

SCRIPTS = ("snntorch_mlp", "spikingjelly_cnn", "lsg_resnet")
WITH, WITHOUT = ("-m", "lsgcli", "diagnose", "--steps", "all"), ()


def run(script: str, words: tuple[str, ...], steps: int) -> dict[str, Any]:
    """What a script wrote about its run."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "run.json"
        path = ROOT / "benchmarks" / "watched" / f"{script}.py"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *words, str(path), str(steps), str(target)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return dict(json.loads(target.read_text(encoding="utf-8")))


def pair(script: str, steps: int, watched_first: bool) -> dict[str, Any]:
    """A run of a script with and one without lsg diagnose."""
    order = (WITH, WITHOUT) if watched_first else (WITHOUT, WITH)
    runs = {words: run(script, words, steps) for words in order}
    seconds = {words: sum(found["seconds"]) / steps for words, found in runs.items()}
    peaks = {words: found["peak_kilobytes"] / 1024 for words, found in runs.items()}
    return {
        "step_ms": 1000 * seconds[WITHOUT],
        "time": seconds[WITH] / seconds[WITHOUT],
        "peak_mb": peaks[WITHOUT],
        "memory": peaks[WITH] / peaks[WITHOUT],
        "same": runs[WITH]["losses"] == runs[WITHOUT]["losses"],
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """Time and memory of each script under lsg diagnose."""
    titles = ("script", "step, ms", "time", "worst", "peak, MB", "memory", "same losses")
    keys = ("step_ms", "time", "worst_time", "peak_mb", "memory", "same_losses")
    rows = [(name, *(one[key] for key in keys)) for name, one in record["scripts"].items()]
    return [Table("lsg diagnose, as a multiple of the script alone", titles, rows)]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {script: [] for script in SCRIPTS}
    for round_ in range(arguments.rounds):
        for script in SCRIPTS:
            found[script].append(pair(script, arguments.steps, round_ % 2 == 1))
    scripts = {}
    for script, pairs in found.items():
        columns = {name: [one[name] for one in pairs] for name in pairs[0]}
        medians = {name: round(statistics.median(columns[name]), 3) for name in ("step_ms", "time", "peak_mb", "memory")}
        scripts[script] = {**medians, "worst_time": round(max(columns["time"]), 3), "same_losses": all(columns["same"])}
    about = machine("snntorch", "spikingjelly")
    record = {**about, "steps": arguments.steps, "rounds": arguments.rounds, "scripts": scripts}
    show(tables(record))
    if arguments.rounds > 1:
        write("diagnose", record)


if __name__ == "__main__":
    main()
