"""Networks of other libraries without normalisation: findings of ``lsg diagnose``, and accuracy before and after its factors on initial weights.

    python -m benchmarks.unnormalised

The record is ``unnormalised``.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, write

SCRIPTS = "snntorch_five.py", "spikingjelly_seven.py"
FACTORS = 0.1, 0.3, 1.0, 3.0, 10.0


def diagnosed(script: str, *factors: float) -> dict[str, Any]:
    """Test accuracy, findings, and factors by layer, if a remedy has some."""
    path = str(Path(__file__).parent / "watched" / script)
    command = [sys.executable, "-m", "lsgcli", "diagnose", "--json", path, *map(str, factors)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    (accuracy,) = re.findall(r"accuracy ([\d.]+)", done.stderr)
    findings = record["findings"]
    named = {
        name: float(factor) for one in findings for name, factor in re.findall(r"([\w.]+) x ([\d.]+)", one["remedy"]["text"])
    }
    return {
        "accuracy": round(float(accuracy), 4),
        "findings": [f"{one['rule']} ({one['severity']})" for one in findings],
        "factors": [named.get(layer["name"], 1.0) for layer in record["layers"]] if named else [],
    }


def main() -> None:
    """Run all."""
    found: dict[str, Any] = {}
    for script in SCRIPTS:
        for factor in FACTORS:
            before = diagnosed(script, factor)
            after = diagnosed(script, factor, *before["factors"]) if before["factors"] else None
            found[f"{script}, weights x {factor:g}"] = {"before": before, "after": after}
    print(write("unnormalised", {"machine": machine("snntorch", "spikingjelly"), "networks": found}))


if __name__ == "__main__":
    main()
