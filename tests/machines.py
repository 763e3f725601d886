"""Rows of benchmarks/results/machines.json, for `.ci/machines`: as a plugin of pytest, from a run of the tests; as a program, from aarch64's."""

import datetime
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "machines.json"
PACKAGES = ("torch", "numba", "numpy")
BEGAN = time.monotonic()


def write(name: str, found: dict[str, object]) -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    rows[name] = {**found, "processor": processor, "date": datetime.date.today().isoformat()}
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter):
    import torch

    reports = {what: terminalreporter.getreports(what) for what in ("passed", "failed", "error", "skipped")}
    found = {
        "passed": len(reports["passed"]),
        "failed": sorted(report.nodeid for report in reports["failed"] + reports["error"]),
        "skipped": len(reports["skipped"]),
        "seconds": round(time.monotonic() - BEGAN),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    write(os.environ["LSGCLI_TEST_MACHINE"], found)


def main(folder: Path) -> None:
    """A row from the files that `lsg doctor --json` and `lsg train` left in a folder."""
    doctor = json.loads((folder / "doctor.json").read_text(encoding="utf-8"))
    result = json.loads((folder / "run" / "result.json").read_text(encoding="utf-8"))
    backends = doctor["backends"].values()
    found = {
        "passed": sum(backend["cases"] for backend in backends),
        "failed": [check["name"] for check in doctor["checks"] if not check["ok"]],
        "skipped": 0,
        "instructions": "aarch64",
        "worst": max(backend["worst"] or 0.0 for backend in backends),
        "accuracy": result["accuracy"],
        "seconds": round(
            sum(json.loads(line)["seconds"] for line in (folder / "run" / "metrics.jsonl").open(encoding="utf-8"))
        ),
        "versions": {"Python": doctor["versions"]["python"]} | {name: doctor["versions"][name] for name in PACKAGES},
    }
    write("aarch64", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
