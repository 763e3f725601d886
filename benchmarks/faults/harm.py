"""Test scores of all scripts alone: what each failure costs.

    python -m benchmarks.faults.harm [NAME ...]

Writes the record ``faults-harm`` after each run; without names, what is not in it yet.
"""

import sys
from typing import Any

from benchmarks.faults.cases import failures, healthy
from benchmarks.faults.running import alone
from benchmarks.measuring import machine, read, write

RECORD = "faults-harm"
HARM = 0.1  # of the score, below the twin's


def scores() -> dict[str, dict[str, Any]]:
    """Score and seconds per name."""
    return dict((read(RECORD) or {"runs": {}})["runs"])


def main(names: list[str]) -> None:
    """Run what was named, or is missing."""
    runs = scores()
    for case in healthy() + failures():
        if case.name in names or (not names and case.name not in runs):
            runs = scores() | {case.name: alone(case)}
            write(RECORD, {"machine": machine("scikit-learn"), "runs": dict(sorted(runs.items()))})
            lost = f", {runs[case.script]['score'] - runs[case.name]['score']:.2f} below" if case.edits else ""
            print(case.name, runs[case.name], lost, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
