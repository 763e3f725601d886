"""Running the scripts of experiment E10: alone, and under ``lsg diagnose``."""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.cases import Case

ROOT = Path(__file__).resolve().parents[2]
LSG = [sys.executable, "-m", "lsgcli"]
LIMIT = 300  # seconds of a command


def command(arguments: list[str], folder: Path) -> tuple[int, str, str, float]:
    """Run on one core in a folder: status, stdout, stderr, seconds. A command that takes too long has status 124."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "PYTHONIOENCODING": "utf-8",
    }
    start = time.perf_counter()
    try:
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", "too long", float(LIMIT)
    return done.returncode, done.stdout, done.stderr, time.perf_counter() - start


def score_in(line: str) -> float:
    """The last number of a line that a script has printed; 0 where it is no number."""
    score = float(re.findall(r"-?\d+\.?\d*(?:e-?\d+)?|nan", line)[-1])
    return 0.0 if math.isnan(score) else score


def alone(case: Case) -> dict[str, Any]:
    """Test score of a script and its seconds; the score is 0 where it fails or is not a number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if case.settings:
            status, _, error, seconds = command(
                [*LSG, "train", *case.text().split(), "--threads", "1", "-q", "--out", "run"], folder
            )
            score = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))["accuracy"] if status == 0 else 0.0
        else:
            (folder / "train.py").write_text(case.text(), encoding="utf-8")
            status, output, error, seconds = command([sys.executable, "train.py"], folder)
            score = score_in(output.strip().splitlines()[-1]) if status == 0 else 0.0
    record: dict[str, Any] = {"score": score, "seconds": round(seconds, 1)}
    if status != 0:
        record["error"] = error.strip().splitlines()[-1][:200]
    return record


def findings(case: Case, trying: bool = False, records: Path | None = None) -> dict[str, Any]:
    """What the tool says about a script: errors and warnings in their order, each with rule, severity, cause, remedy and line.

    Args:
        case: the script.
        trying: whether it may run experiments (``--try``), which the record then has, too.
        records: folder in which what was seen of the script is kept, so that it can be judged again.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if case.settings:
            _, _, _, training = command([*LSG, "train", *case.text().split(), "--threads", "1", "-q", "--out", "run"], folder)
            status, output, error, seconds = command([*LSG, "inspect-gradients", "run", "--advise", "--json"], folder)
        else:
            training = 0.0
            (folder / "train.py").write_text(case.text(), encoding="utf-8")
            asked = ["--try"] if trying else []
            asked += ["--force", "--record", str(records / f"{case.name.replace('/', '-')}.json")] if records else []
            status, output, error, seconds = command([*LSG, "diagnose", "--json", *asked, "train.py"], folder)
    record: dict[str, Any] = {"findings": [], "status": status, "seconds": round(training + seconds, 1)}
    try:
        result = json.loads(output)
    except json.JSONDecodeError:
        return record | {"error": error.strip().splitlines()[-1:]}
    return record | told(result)


def told(result: dict[str, Any]) -> dict[str, Any]:
    """Errors and warnings of a diagnosis, and its experiments."""
    record: dict[str, Any] = {"findings": []}
    for finding in result["findings"]:
        if finding["severity"] in ("error", "warning"):
            said = {key: finding.get(key) for key in ("rule", "severity", "cause", "remedy", "command")}
            said |= {"confirmed": finding["confirmed"]} if "confirmed" in finding else {}
            record["findings"].append(said | {"line": (finding.get("where") or {}).get("line")})
    for one in result.get("experiments", []):
        kept = {name: value for name, value in one.items() if name not in ("losses", "line")}
        record.setdefault("experiments", []).append(kept)
    return record


def judged_again(case: Case, records: Path) -> dict[str, Any]:
    """What the rules say now about what was seen of a script before."""
    from lsgcli.runs.script import judged

    return {"status": 0, "seconds": math.nan, **told(judged(records / f"{case.name.replace('/', '-')}.json").record)}


def with_change(case: Case, experiment: dict[str, Any]) -> float:
    """Test score of a script that runs to its end with the change of an experiment; 0 where it fails or is not a number."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = case.text().splitlines(keepends=True)
        for edit in experiment["edits"]:
            text[edit["line"] - 1] = text[edit["line"] - 1].replace(edit["old"], edit["new"], 1)
        (folder / "train.py").write_text("".join(text), encoding="utf-8")
        changed = {"intervention": "" if experiment["edits"] else experiment["intervention"], "values": experiment["values"]}
        spec = {
            "script": "train.py",
            "arguments": [],
            "module": False,
            "steps": 10**9,
            "result": "outcome.json",
            "protected": [],
        }
        (folder / "spec.json").write_text(json.dumps(spec | changed), encoding="utf-8")
        status, output, error, _ = command([sys.executable, "-m", "lsgcli.runs.experiment", "spec.json"], folder)
    printed = [line for line in (output + error).strip().splitlines() if re.search(r"\d|nan", line) and "Warning" not in line]
    return score_in(printed[-1]) if status == 0 and printed else 0.0


def by_chance(case: Case, seconds: float) -> list[dict[str, Any]]:
    """What random experiments name: those that are possible, in random order, for some seconds, until one makes the script learn."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "train.py").write_text(case.text(), encoding="utf-8")
        words = ["train.py", str(seconds), case.name]
        _, output, _, _ = command([sys.executable, "-m", "benchmarks.faults.chance", *words], Path(name))
    try:
        return list(json.loads(output)["findings"])
    except json.JSONDecodeError:
        return []
