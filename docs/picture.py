"""Draw `docs/images/train.svg` from a run that really took place: `python docs/picture.py` (about a minute)."""

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGE = Path(__file__).parent / "images" / "train.svg"
WIDTH = 118


def main() -> None:
    """Train on the embedded data, inspect the result, and draw what a terminal shows."""
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        train = subprocess.run(
            [sys.executable, "-m", "lsgcli", "train"], cwd=folder, capture_output=True, text=True, check=True
        )
        path = train.stdout.strip()
        inspect = [sys.executable, "-m", "lsgcli", "inspect-gradients", path]
        environment = {"COLUMNS": str(WIDTH), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
        table = subprocess.run(inspect, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    _prompt(screen, "lsg train")
    screen.print(Text(train.stderr.rstrip(), style="dim"))
    screen.print(Text(path))
    _prompt(screen, f"lsg inspect-gradients {path}")
    screen.print(Text("\n".join(table.stdout.rstrip().splitlines()[1:])))
    svg = screen.export_svg(title="lsg")
    IMAGE.parent.mkdir(exist_ok=True)
    # The picture must not fetch fonts from anywhere.
    IMAGE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


def _prompt(screen: Console, command: str) -> None:
    screen.print(Text.assemble(("$ ", "bold green"), (command, "bold")))


if __name__ == "__main__":
    main()
