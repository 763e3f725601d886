"""The paper's Tables 1 and 2 and Figures 4 to 7, at a reduced size that takes about two hours on two cores.

    python -m benchmarks.reproduction digits-dvs
    python -m benchmarks.reproduction cifar --data-dir FOLDER     # CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.reproduction n-mnist --data-dir FOLDER   # Train/<digit>/*.bin and Test/<digit>/*.bin

Each experiment runs ``lsg ablate`` for each table, in one process per core, and ``lsg inspect-gradients`` on the networks of three
methods with the first seed. Finished runs are not repeated. Runs are written to ``--out``, records and commands to
``reproduction-<name>``, figures to ``docs/images/reproduction``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, machine, without_folders, write
from benchmarks.tables import Table
from lsgcli.config.fields import current
from lsgcli.config.run import FIELDS
from lsgcli.sweeps.paper import RESULTS as PAPER

IMAGES = RESULTS.parents[1] / "docs" / "images" / "reproduction"
METHODS = ("fixed", "trainable-decay", "lsg")


@dataclass(frozen=True)
class Experiment:
    """What is run.

    Args:
        title: in words.
        tables: of the paper, and the seeds of each.
        paper: the data set whose figures stand beside.
        options: of ``lsg ablate``, whatever the table.
        folder: whether it needs a --data-dir.
    """

    title: str
    tables: dict[str, str]
    paper: str
    options: str
    folder: bool = True


EXPERIMENTS = {
    "cifar": Experiment(
        "10,000 images of CIFAR-10, ResNet-19 with an eighth of the channels, T=2",
        {"1": "0-2", "2": "0-1"},
        "cifar10",
        "--dataset image-folder --arch resnet19 -T 2 --width-multiplier 0.125 --epochs 5 --decay-lr 5e-3 --val-fraction 0.1",
    ),
    "digits-dvs": Experiment(
        "digits-dvs, VGGSNN with an eighth of the channels, T=10",
        {"1": "0-4"},
        "cifar-dvs",
        "--dataset digits-dvs -T 10",
        folder=False,
    ),
    "n-mnist": Experiment(
        "700 recordings of N-MNIST, VGGSNN with an eighth of the channels, T=10",
        {"1": "0-4"},
        "cifar-dvs",
        "--dataset n-mnist -T 10 --width-multiplier 0.125 --epochs 20",
    ),
}


def run(name: str, data_dir: str | None, out: Path, processes: int) -> dict[str, Any]:
    """Train missing runs; returns the record of all runs."""
    experiment, root = EXPERIMENTS[name], out / name
    folder = ["--data-dir", data_dir] if data_dir else []
    record: dict[str, Any] = {"machine": machine("numba"), "name": name, "commands": [], "tables": {}}
    for table, seeds in experiment.tables.items():
        words = ["lsg", "ablate", "--table", table, *experiment.options.split(), *folder, "--seeds", seeds, "--threads", "1"]
        words += ["--out", str(root)]
        record["commands"].append(shown(words, out))
        # The same command several times at once shares the work; one of them then has the table and the pictures.
        others = [subprocess.Popen([*words, "-q"], stdout=subprocess.DEVNULL) for _ in range(processes - 1)]
        pictures = IMAGES / f"{name}-{table}"
        try:
            found = subprocess.run([*words, "--json", "--plot", str(pictures), "--force"], stdout=subprocess.PIPE, check=True)
        finally:
            for other in others:
                other.terminate()  # all has been done, or an error ends it
                other.wait()
        record["tables"][table] = json.loads(found.stdout)
        keep(pictures)
    results = [json.loads((root / f"method={method}" / "s0" / "result.json").read_text()) for method in METHODS]
    checkpoints = [result["checkpoint"] for result in results if "checkpoint" in result]  # one that diverged has none
    if not checkpoints:
        return record
    pictures = IMAGES / f"{name}-flow"
    words = [
        "lsg",
        "inspect-gradients",
        *checkpoints,
        *folder,
        "--json",
        "--html",
        str(root / "flow.html"),
        "--plot",
        str(pictures),
        "--force",
    ]
    record["commands"].append(shown(words, out))
    found = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    record["flow"] = [{**flow, "checkpoint": f"{flow['method']}.safetensors"} for flow in json.loads(found.stdout)]
    keep(pictures)
    return record


def shown(words: Sequence[str], out: Path) -> str:
    """A command as shown in the documentation: runs below ``runs``, and other folders without their parents."""
    return " ".join(without_folders(word.replace(str(out), "runs")) for word in words)


def keep(folder: Path) -> None:
    """Only the pictures that the page shows."""
    page = (IMAGES.parents[1] / "reproduction.md").read_text(encoding="utf-8")
    for path in folder.iterdir():
        if f"{folder.name}/{path.name}" not in page:
            path.unlink()


def table(record: dict[str, Any], number: str) -> Table:
    """One of the paper's tables: accuracies in percent, differences in points."""
    dataset = EXPERIMENTS[record["name"]].paper
    paper = {(one.method, one.width): one.accuracy for one in PAPER if (one.table, one.dataset) == (number, dataset)}
    head = (
        "method",
        "alpha",
        "accuracy",
        "n",
        "each seed",
        "last epoch",
        "difference",
        "95 % interval",
        "verdict",
        "paper",
    )
    found = Table("", head)
    for row in record["tables"][number]["rows"]:
        method = current(FIELDS["method"], row["method"])
        theirs = paper.get((method, row["width"]))
        interval = row["interval"] and " to ".join(f"{100 * end:+.1f}" for end in row["interval"])
        last = [value for value in row["last"] if value is not None]
        spread = "" if row["std"] is None else f" +- {100 * row['std']:.1f}"
        cells = (
            method,
            row["width_formula"] or f"{row['width']:g}",
            "-" if row["mean"] is None else f"**{100 * row['mean']:.1f}{spread}**",
            row["n"],
            " ".join(f"{100 * value:.1f}" for value in row["accuracies"]),
            f"{100 * sum(last) / len(last):.1f}" if last else "-",
            "-" if row["difference"] is None else f"{100 * row['difference']:+.1f}",
            interval or "-",
            row["verdict"],
            f"{100 * theirs:.2f}" if theirs else "-",
        )
        found.rows.append(cells)
    return found


def main() -> None:
    """Run one experiment and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--data-dir", help="of the images or recordings")
    parser.add_argument("--out", type=Path, default=Path("runs") / "reproduction", help="folder of the runs")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="at once; default: all cores")
    options = parser.parse_args()
    if EXPERIMENTS[options.name].folder and not options.data_dir:
        parser.error(f"{options.name} needs --data-dir")
    if shutil.which("lsg") is None:
        parser.error("lsg is not on the PATH")
    print(
        write(f"reproduction-{options.name}", run(options.name, options.data_dir, options.out, options.processes)),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
