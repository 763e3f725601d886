"""Draw `docs/images/train.svg` from a run that really took place: `python docs/picture.py` (about a minute)."""

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGE = Path(__file__).parent / "images" / "train.svg"
COMMANDS = ("lsg train --out first", "lsg inspect-gradients first/best.safetensors")
WIDTH = 112


def main() -> None:
    """Train on the embedded data, inspect the result, and draw what a terminal shows."""
    environment = {**os.environ, "COLUMNS": str(WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        shown = [
            subprocess.run(
                [sys.executable, "-m", "lsgcli", *command.split()[1:]],
                cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
            ).stdout
            for command in COMMANDS
        ]  # fmt: skip
    draw(shown)


def draw(shown: Sequence[str]) -> None:
    """Draw the output of each command, without times, which depend on the machine."""
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for command, output in zip(COMMANDS, shown, strict=True):
        screen.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        lines = [line for line in output.rstrip().splitlines() if not line.startswith("compiling")]  # in the first run only
        screen.print(Text("\n".join(re.sub(r"  \S+ s  data .*", "", line) for line in lines)))
    svg = screen.export_svg(title="lsg")
    # The picture must not fetch fonts from anywhere.
    IMAGE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
