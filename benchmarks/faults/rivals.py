"""Other tools for faults of training programs, on the scripts of experiment E10, each at its documented use.

They are installed beside torch in an environment of their own, whose Python is named by the variable ``FAULTS_RIVALS``. Those that need
the network and the optimiser get them after the script's first step, which stands for the lines that their documentation adds.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.faults import judging
from benchmarks.faults.cases import Case
from benchmarks.faults.running import command

TOOLS = ("torch-audit", "torchdiag", "torchmortem", "mldoct", "neural-observatory")


def all_of(case: Case) -> dict[str, list[str]]:
    """What each tool says about a script: kinds of its errors and warnings, in its order."""
    said: dict[str, list[str]] = {}
    for tool in () if case.settings else TOOLS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "train.py").write_text(case.text(), encoding="utf-8")
            inside = Path(__file__).with_name("rival.py")
            command([os.environ["FAULTS_RIVALS"], str(inside), tool, "said.json", "train.py"], folder)
            found = folder / "said.json"
            said[tool] = json.loads(found.read_text(encoding="utf-8")) if found.exists() else ["failed"]
    return said


def table(cases: list[Case], runs: dict[str, dict[str, Any]]) -> str:
    """The figures of each tool over all scripts that it was run on."""
    known = judging.read("rivals.toml")
    lines = ["| | cause first | among two | among all | precision of two | of all | healthy with a message |", "|---" * 7 + "|"]
    for tool in TOOLS:
        broken, flagged = [], []
        for case in cases:
            kinds = runs.get(case.name, {}).get("rivals", {}).get(tool)
            if kinds is None:
                continue
            if case.edits:
                broken.append([not set(case.causes).isdisjoint(known[tool].get(kind, [])) for kind in kinds])
            else:
                flagged.append(bool(kinds))
        row = [judging.share([any(named[:1]) for named in broken]), judging.share([any(named[:2]) for named in broken])]
        row += [judging.share([any(named) for named in broken])]
        row += [judging.mean([judging.precision(named[:2]) for named in broken])]
        row += [judging.mean([judging.precision(named) for named in broken]), judging.share(flagged)]
        lines.append(f"| {tool} | " + " | ".join(row) + " |")
    return "\n".join(lines)
