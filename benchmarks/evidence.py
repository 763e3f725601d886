"""The experiments of docs/evidence.md, in pieces that can be stopped and repeated.

    python -m benchmarks.evidence threshold
    python -m benchmarks.evidence decay
    python -m benchmarks.evidence neurons-n-mnist --data-dir FOLDER      # Train/<digit>/*.bin and Test/<digit>/*.bin
    python -m benchmarks.evidence neurons-cifar-dvs --data-dir FOLDER    # <class>/*.aedat
    python -m benchmarks.evidence rules --data-dir FOLDER                # CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.evidence threshold --part threshold-2           # one part, to run side by side with others
    python -m benchmarks.evidence threshold --collect                    # only the record, from the finished runs

Each part of an experiment is a table of ``lsg ablate``, run in one process per core. Finished runs are not repeated. Runs are written to
``--out``, records and commands to ``benchmarks/results/evidence-<name>.json``, after each part; the record keeps the parts that are not run.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, machine, write
from benchmarks.reproduction import shown
from benchmarks.tables import Cell, Table
from lsgcli.ablation import statistics
from lsgcli.ablation.collect import Collection, collect
from lsgcli.ablation.plan import what_counts


@dataclass(frozen=True)
class Experiment:
    """What is run.

    Args:
        parts: folder of each table -> options of its ablations. The first has the baseline; the runs of the others are in subfolders.
            One that names ``{seed}`` runs for each seed by itself.
        options: common to all ablations.
        margin: of equivalence, in percentage points.
        seeds: of every row.
        pair: methods whose last rows are compared with each other, too.
        folder: whether it needs a --data-dir.
    """

    parts: dict[str, Sequence[str]]
    options: str
    margin: float
    seeds: range
    pair: tuple[str, str] | None = None
    folder: bool = True


NEURONS = (
    "--grid method=none,lsg",
    "--neuron clif --grid method=none",
    "--init-potential measured --grid method=trsg",
)
EXPERIMENTS = {
    "threshold": Experiment(
        {
            f"threshold-{v:g}": [f"--threshold {v:g} --grid method=none,trainable-decay,lsg width=1,{2 * v:g}"]
            for v in (0.25, 0.5, 1, 2)
        },
        "--dataset digits-dvs",
        1.5,
        range(5),
        ("lsg", "none"),  # of width 2 v
        folder=False,
    ),
    "decay": Experiment(
        {"decay": ["--grid method=none,trainable-decay,lsg decay=0.2,0.5,0.8,0.95"]},
        "--dataset digits-dvs",
        1.5,
        range(5),
        folder=False,
    ),
    "rules": Experiment(
        {
            "rules": [
                "--grid method=none,trainable-decay,lsg,mpd-agl,ds-atgo",
                "--grid method=matched-width --width-from {root}/method=lsg/s{seed}/last.safetensors",
            ]
        },
        "--dataset image-folder --arch resnet19 -T 2 --width-multiplier 0.125 --epochs 5 --val-fraction 0.1",
        1,
        range(6),
        ("matched-width", "lsg"),
    ),
    "neurons-n-mnist": Experiment(
        {"neurons-n-mnist": NEURONS}, "--dataset n-mnist --width-multiplier 0.125 --epochs 20", 1, range(5)
    ),
    "neurons-cifar-dvs": Experiment(
        {"neurons-cifar-dvs": NEURONS}, "--dataset cifar-dvs --width-multiplier 0.125 --epochs 30", 4, range(5)
    ),
}


def commands(experiment: Experiment, part: str, root: Path, data_dir: str | None) -> list[list[list[str]]]:
    """The ablations of a part, in groups that run one after another."""
    groups, options = [], experiment.options.split()
    options += ["--data-dir", data_dir] if data_dir else []
    options += ["--margin", f"{experiment.margin:g}", "--threads", "1"]
    every = f"{experiment.seeds[0]}-{experiment.seeds[-1]}"
    for number, rows in enumerate(experiment.parts[part]):
        each = "{seed}" in rows
        groups.append(
            [
                ["lsg", "ablate", *options, *rows.format(root=root, seed=seed).split(), "--seeds", str(seed), "--out", str(out)]
                for seed in (experiment.seeds if each else [every])
                for out in [root / (f"{number}-{seed}" if each else str(number)) if number else root]
            ]
        )
    return groups


def run(name: str, options: argparse.Namespace) -> None:
    """Train missing runs, part by part, and write the record of all finished parts."""
    experiment, path = EXPERIMENTS[name], RESULTS / f"evidence-{name}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"commands": {}, "tables": {}}
    for part in [options.part] if options.part else experiment.parts:
        root = options.out / part
        groups = commands(experiment, part, root, options.data_dir)
        for group in () if options.collect else groups:
            # A command that runs several times at once shares its work.
            copies = group * options.processes if len(group) == 1 else group
            with ThreadPoolExecutor(options.processes) as pool:
                status = list(pool.map(lambda words: subprocess.call([*words, "-q"], stdout=subprocess.DEVNULL), copies))
            if any(status):
                sys.exit(f"{part}: failed: {shlex.join(group[0])}")
        if not root.exists():
            continue
        found = without_sources(collect(root))
        if None in found.records:
            print(f"{part}: not finished", file=sys.stderr)
            continue
        record["machine"] = machine("numba")
        record["commands"][part] = "\n    ".join(shown(words, options.out) for group in groups for words in group)
        record["tables"][part] = found.summary(experiment.margin / 100)
        record["pair"], record["margin"] = experiment.pair, experiment.margin / 100
        print(write(path.stem, record), file=sys.stderr)


def without_sources(collection: Collection) -> Collection:
    """The same runs, where rows that differ only in ``--width-from`` are one: each seed copies the widths of its own run."""
    rows: dict[str, int] = {}
    cells = []
    for cell in collection.cells:
        config = cell.config.replace(width_from=None)
        row = rows.setdefault(json.dumps(what_counts(config), sort_keys=True), len(rows))
        cells.append(replace(cell, row=row, config=config))
    return replace(collection, cells=cells)


def tables(record: dict[str, Any]) -> list[Table]:
    """A table for each part, and one for the pair of rows that is also compared: accuracies in percent, differences in points."""
    head = ("difference", "95 % interval", "p", "detectable", "verdict")
    found = []
    for part, result in record["tables"].items():
        table = Table(part, ("", "accuracy", "n", "last epoch", *head))
        for row in result["rows"]:
            accuracy = "-" if row["mean"] is None else f"**{_points(row['mean'])} +- {_points(row['std'])}**"
            table.rows.append((row["label"], accuracy, row["n"], _mean(row["last"]), *_compared(row)))
        found.append(table)
    if record.get("pair"):
        found.append(Table("{} compared with {}".format(*record["pair"]), ("", "rows", *head), _pairs(record)))
    return found


def _pairs(record: dict[str, Any]) -> list[Sequence[Cell]]:
    """The comparison of two rows of each part, the last ones of two methods, with Holm's correction over the parts."""
    found = []
    for part, result in record["tables"].items():
        first, second = ([row for row in result["rows"] if row["method"] == method][-1] for method in record["pair"])
        shared = sorted(set(first["seeds"]) & set(second["seeds"]))
        accuracies = [dict(zip(row["seeds"], row["accuracies"], strict=True)) for row in (first, second)]
        differences = [accuracies[0][seed] - accuracies[1][seed] for seed in shared]
        mean, interval = statistics.paired(differences)
        row = {"difference": mean, "interval": interval, "p": statistics.paired_test(differences)}
        row |= {"detectable": statistics.detectable(differences)}
        row |= {"equivalent": statistics.equivalent(differences, record["margin"])}
        found.append((part, f"{first['label']}; {second['label']}", row))
    tested = [row for _, _, row in found if row["p"] is not None]
    for row, p in zip(tested, statistics.holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
    return [(part, labels, *_compared(row)) for part, labels, row in found]


def _compared(row: dict[str, Any]) -> tuple[str, ...]:
    """Difference, interval, p, detectable difference, and the verdict by the rules of docs/evidence.md."""
    if row["difference"] is None:
        return ("-", "-", "-", "-", "baseline")
    if row["p"] is not None and row["p"] < 0.05:
        verdict = "better" if row["difference"] > 0 else "worse"
    else:
        verdict = "equivalent" if row["equivalent"] else "not decided"
    interval = " to ".join(_points(end, "+") for end in row["interval"] or ()) or "-"
    p = "-" if row["p"] is None else f"{row['p']:.3f}"
    return (_points(row["difference"], "+"), interval, p, _points(row["detectable"]), verdict)


def _points(value: float | None, sign: str = "") -> str:
    """Percentage points."""
    return "-" if value is None else f"{100 * value:{sign}.1f}"


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{100 * sum(there) / len(there):.1f}" if there else "-"


def main() -> None:
    """Run one experiment and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--part", help="only this part")
    parser.add_argument("--out", type=Path, default=Path("runs") / "evidence", help="folder of the runs")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="at once; default: all cores")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    experiment = EXPERIMENTS[options.name]
    if experiment.folder and not (options.collect or options.data_dir):
        parser.error(f"{options.name}: found no --data-dir, expected the folder of the data set")
    if options.part and options.part not in experiment.parts:
        parser.error(f"--part: found {options.part}, expected one of {', '.join(experiment.parts)}")
    if shutil.which("lsg") is None:
        parser.error("lsg is not on the PATH")
    run(options.name, options)


if __name__ == "__main__":
    main()
