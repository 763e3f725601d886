"""The experiments of docs/evidence.md, in pieces that can be stopped and repeated.

    python -m benchmarks.evidence threshold
    python -m benchmarks.evidence decay
    python -m benchmarks.evidence threshold --collect             # only the record, from the finished runs

Each part of an experiment is one ``lsg ablate``, run in one process per core. Finished runs are not repeated. Runs are written to ``--out``,
records and commands to ``benchmarks/results/evidence-<name>.json``, after each part.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, write
from benchmarks.reproduction import shown
from benchmarks.tables import Table


@dataclass(frozen=True)
class Experiment:
    """What is run.

    Args:
        parts: folder of each ablation -> its options.
        options: common to all parts.
        margin: of equivalence, in percentage points.
    """

    parts: dict[str, str]
    options: str
    margin: float


EXPERIMENTS = {
    "threshold": Experiment(
        {
            f"threshold-{v:g}": f"--threshold {v:g} --grid method=none,trainable-decay,lsg width=1,{2 * v:g}"
            for v in (0.25, 0.5, 1, 2)
        },
        "--dataset digits-dvs --seeds 0-4",
        1.5,
    ),
    "decay": Experiment(
        {"decay": "--grid method=none,trainable-decay,lsg decay=0.2,0.5,0.8,0.95"}, "--dataset digits-dvs --seeds 0-4", 1.5
    ),
}


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train missing runs, part by part; returns the record of all finished parts."""
    experiment = EXPERIMENTS[name]
    record: dict[str, Any] = {"machine": machine("numba"), "commands": {}, "tables": {}}
    margin = ["--margin", f"{experiment.margin:g}"]
    for part, rows in experiment.parts.items():
        root = options.out / part
        words = ["lsg", "ablate", *experiment.options.split(), *rows.split(), *margin, "--threads", "1", "--out", str(root)]
        # The same command several times at once shares the work; one of them then has the table.
        others = [
            subprocess.Popen([*words, "-q"], stdout=subprocess.DEVNULL)
            for _ in range(0 if options.collect else options.processes - 1)
        ]
        if options.collect:
            if not root.exists():
                continue
            found = subprocess.run(
                ["lsg", "ablate", "--collect", str(root), *margin, "--json"], stdout=subprocess.PIPE, check=True
            )
        else:
            try:
                found = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, check=True)
            finally:
                for other in others:
                    other.terminate()  # all has been done, or an error ends it
                    other.wait()
        result = json.loads(found.stdout)
        if any(row["missing"] for row in result["rows"]):
            print(f"{part}: not finished", file=sys.stderr)
            continue
        record["commands"][part] = shown(words, options.out)
        record["tables"][part] = result
        print(write(f"evidence-{name}", record), file=sys.stderr)
    return record


def tables(record: dict[str, Any]) -> list[Table]:
    """A table for each part: accuracies in percent, differences in points."""
    head = ("", "accuracy", "n", "last epoch", "difference", "95 % interval", "p", "detectable", "verdict")
    found = []
    for part, result in record["tables"].items():
        table = Table(part, head)
        for row in result["rows"]:
            points = lambda value, sign="": "-" if value is None else f"{100 * value:{sign}.1f}"  # noqa: E731
            verdict = "equivalent" if row["equivalent"] and row["verdict"] != "better" else row["verdict"]
            table.rows.append(
                (
                    row["label"],
                    "-" if row["mean"] is None else f"**{points(row['mean'])} +- {points(row['std'])}**",
                    row["n"],
                    _mean(row["last"]),
                    points(row["difference"], "+"),
                    " to ".join(points(end, "+") for end in row["interval"] or ()) or "-",
                    "-" if row["p"] is None else f"{row['p']:.3f}",
                    points(row["detectable"]),
                    verdict,
                )
            )
        found.append(table)
    return found


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{100 * sum(there) / len(there):.1f}" if there else "-"


def main() -> None:
    """Run one experiment and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--out", type=Path, default=Path("runs") / "evidence", help="folder of the runs")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="at once; default: all cores")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    if shutil.which("lsg") is None:
        parser.error("lsg is not on the PATH")
    run(options.name, options)


if __name__ == "__main__":
    main()
