"""Draw the pictures of the documentation that show runs: `python docs/picture.py` trains and draws, in about six minutes.

``train.svg``, ``export.svg`` and ``diagnose.svg`` show a terminal; ``rescue.svg``, and ``rescue-dark.svg`` for dark pages, a network
that does not learn, and what the best of its remedies makes of it. Others are files that commands write.
`python docs/picture.py diagnose sheet.png` draws two of them.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))  # for benchmarks, which is not installed

from benchmarks.plot import SETTINGS, svg
from lsgcli.report.drawing import COLOURS

IMAGES = Path(__file__).parent / "images"
WIDTH = 112
TERMINALS = {
    "train": ("lsg train --out first", "lsg inspect-gradients first/best.safetensors"),
    "export": (
        "lsg export first/best.safetensors -o digits.onnx --verify 64",
        "lsg export first/best.safetensors -o digits.nir --verify 64",
    ),
}
EXAMPLE = Path(__file__).parent / "examples" / "snn.py"
INKS = {"rescue": "#333333", "rescue-dark": "#dddddd"}
BROKEN = "lsg train --method fixed --norm bn --threshold 4 --epochs 2 --out broken"
ADVISE = "lsg inspect-gradients broken --advise --try 2 --json"
THREE = (
    "lsg train --method fixed --width 1 --epochs 3 --out width-1",
    "lsg train --method fixed --width 10 --epochs 3 --out width-10",
    "lsg train --epochs 3 --out learned",
    "lsg inspect-gradients width-1 width-10 learned --plot flow",
)
FILES = {  # picture: commands, and which of their files it is
    "sheet.png": (("lsg data show --dataset digits-dvs --samples 4 -o sheet.png",), "sheet.png"),
    "figure.svg": (
        (
            "lsg ablate --grid method=fixed,lsg width=1,10 --epochs 4 --width-multiplier 0.0625 --out ablation",
            "lsg ablate --collect ablation --plot figure.svg",
        ),
        "figure.svg",
    ),
    "flow-coverage.svg": (THREE, "flow/coverage.svg"),
    "flow-gain.svg": (THREE, "flow/gain.svg"),
    "activity-threshold-4.svg": ((BROKEN, "lsg inspect-gradients broken --plot broken-flow"), "broken-flow/raster.svg"),
    "surrogates.svg": (("lsg reproduce figure-1 --out paper",), "paper/figure-1.svg"),
    "potential.svg": (("lsg reproduce figure-3 --out paper",), "paper/figure-3.svg"),
}


def made() -> list[str]:
    """The files that this program draws."""
    return [f"{name}.svg" for name in (*TERMINALS, "diagnose", *INKS)] + list(FILES)


def main() -> None:
    """Draw the pictures that are named, or all."""
    wanted = sys.argv[1:] or [*TERMINALS, "diagnose", "rescue", *FILES]
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            if name in TERMINALS:
                commands = TERMINALS[name]
                terminal(IMAGES / f"{name}.svg", commands, [run(command, folder, subprocess.STDOUT) for command in commands])
        if "diagnose" in wanted:
            diagnose(folder)
        if "rescue" in wanted:
            run_once(BROKEN, folder)
            rescue(json.loads(run(ADVISE, folder)), folder)
        for name in FILES.keys() & wanted:
            commands, file = FILES[name]
            for command in commands:
                run_once(command, folder)
            shutil.copy(Path(folder, file), IMAGES / name)


def diagnose(folder: str) -> None:
    """A script of snntorch, what is wrong with it, and the same script with the threshold that lsg suggests."""
    script = EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')[2]
    (Path(folder) / "snn.py").write_text(script, encoding="utf-8")
    found = run("lsg diagnose snn.py", folder).partition("\n2. ")[0]
    threshold = re.search(r"threshold=50 -> ([\d.]+)", found)
    assert threshold, found
    cure = f"sed -i 's/threshold=50/threshold={threshold[1]}/' snn.py"
    subprocess.run(cure, shell=True, cwd=folder, check=True)
    cured = run("lsg diagnose snn.py", folder)
    commands = ("cat snn.py", "lsg diagnose snn.py", f"{cure} && lsg diagnose snn.py")
    terminal(IMAGES / "diagnose.svg", commands, (script, found, cured))


@cache
def run_once(command: str, folder: str) -> None:
    """Run a command, unless it has been run in this folder."""
    run(command, folder)


def run(command: str, folder: str, stderr: int = subprocess.DEVNULL) -> str:
    """What a command prints."""
    arguments = [sys.executable, "-m", "lsgcli", *command.split()[1:]]
    environment = {**os.environ, "COLUMNS": str(WIDTH)}
    return subprocess.run(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True
    ).stdout


def terminal(image: Path, commands: Sequence[str], shown: Sequence[str]) -> None:
    """Draw commands with their output, without times, which depend on the machine."""
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for command, output in zip(commands, shown, strict=True):
        screen.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        lines = [line for line in output.rstrip().splitlines() if not line.startswith("compiling")]  # in the first run only
        screen.print(Text("\n".join(re.sub(r"  \S+ s  data .*", "", line) for line in lines)))
    drawn = screen.export_svg(title="lsg")
    # The picture must not fetch fonts from anywhere.
    image.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


def rescue(record: dict[str, Any], folder: str) -> None:
    """Firing rate and coverage of each layer, before and after the best remedy that was tried."""
    import matplotlib
    from matplotlib.figure import Figure

    unchanged, *remedies = record["tried"]
    cured = max(remedies, key=lambda row: row["accuracy"])
    suggested = cured["remedy"].replace("=", " ")
    titles = (
        f"threshold 4: {100 * unchanged['accuracy']:.0f} %",
        f"{suggested}, as suggested: {100 * cured['accuracy']:.0f} %",
    )
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, title, one in zip(axes, titles, (unchanged, cured), strict=True):
            layers = json.loads(run(f"lsg inspect-gradients {one['run']} --json", folder))["layers"]
            places = range(len(layers))
            axis.bar(
                [place - 0.2 for place in places],
                [layer["firing_rate"] for layer in layers],
                0.4,
                color=COLOURS[0],
                label="firing rate",
            )
            axis.bar(
                [place + 0.2 for place in places],
                [layer["coverage"] for layer in layers],
                0.4,
                color=COLOURS[1],
                label="potentials inside the surrogate",
            )
            axis.set_xticks(places, [layer["name"] for layer in layers], rotation=45)
            axis.set_title(title, fontsize=12, fontweight="bold")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("share")
        axes[0].legend(frameon=False)
        for name, ink in INKS.items():
            (IMAGES / f"{name}.svg").write_text(svg(figure, f"<style>svg{{color:{ink}}}</style>"), encoding="utf-8")


if __name__ == "__main__":
    main()
