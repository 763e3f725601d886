"""Write the sample pages of the site, `docs/samples/report.html` and `flow.html`: `python docs/samples.py` trains on embedded data, in a minute."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"  # not in the repository
COMMANDS = (
    "train --method fixed --width 1 --epochs 3 --out width-1",
    "train --method fixed --width 10 --epochs 3 --out width-10",
    "train --epochs 3 --out learned",
    "inspect-gradients width-1 width-10 learned --advise --html flow.html",
)


def main() -> None:
    """Train three networks, and keep the report of the last and the page of the gradient flow of all."""
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            arguments = [sys.executable, "-m", "lsgcli", *command.split(), "--quiet"]
            subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        SAMPLES.mkdir(exist_ok=True)
        shutil.copy(Path(folder, "learned", "report.html"), SAMPLES)
        shutil.copy(Path(folder, "flow.html"), SAMPLES)


if __name__ == "__main__":
    main()
