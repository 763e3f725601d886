"""The experiments of docs/evidence.md, in pieces that can be stopped and repeated.

    python -m benchmarks.evidence threshold
    python -m benchmarks.evidence decay
    python -m benchmarks.evidence neurons-n-mnist --data-dir FOLDER      # Train/<digit>/*.bin and Test/<digit>/*.bin
    python -m benchmarks.evidence neurons-cifar-dvs --data-dir FOLDER    # <class>/*.aedat
    python -m benchmarks.evidence rules --data-dir FOLDER                # CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.evidence zeros-digits-dvs                       # dense convolutions and convolutions by spikes; zeros-n-mnist
    python -m benchmarks.evidence rates-digits-dvs                       # penalised firing rates; rates-cifar --data-dir FOLDER
    python -m benchmarks.evidence parallel-n-mnist --data-dir FOLDER     # parallel neurons; parallel-cifar
    python -m benchmarks.evidence max-resnet --data-dir FOLDER           # Max-ResNet beside MS-ResNet
    python -m benchmarks.evidence threshold --part threshold-2           # one part, to run side by side with others
    python -m benchmarks.evidence rules --data-dir FOLDER --seeds 0-1    # some of the seeds; the others another day
    python -m benchmarks.evidence threshold --collect                    # only the record, from the finished runs

Each part of an experiment is a table of ``lsg ablate``, run in one process per core. Finished runs are not repeated. Runs are written to
``--out``, records and commands to ``evidence-<name>``, after each part; the record keeps the parts that are not run,
and the settings and results of finished runs of an unfinished part, so that it can be completed on another machine.
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

from benchmarks.measuring import machine, read, write
from benchmarks.reproduction import shown
from benchmarks.tables import Cell, Table
from lsgcli.config.run import PATHS
from lsgcli.runs.table import what_counts
from lsgcli.store import rundir
from lsgcli.sweeps import statistics
from lsgcli.sweeps.collect import Collection, collect
from lsgcli.system import files


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
    "--grid method=fixed,lsg",
    "--neuron clif --grid method=fixed",
    "--init-potential measured --grid method=trsg",
)
ZEROS = ("--grid convolution=dense,auto",)
RATES = ("--grid convolution=auto", "--grid convolution=auto rate-target=0.12,0.08,0.05")
AS_PUBLISHED = "--norm bn --threshold 1 --surrogate atan --grid method=fixed,linear-sigma"  # the PSN family
# The networks sequential-cnn and max-resnet18-2222 are plug-ins: pip install ./docs/plugins
EXPERIMENTS = {
    "parallel-n-mnist": Experiment(
        {"parallel-n-mnist": ("--grid method=lsg", *(f"--neuron {name} {AS_PUBLISHED}" for name in ("psn", "sliding-psn")))},
        "--dataset n-mnist --width-multiplier 0.125 --epochs 10",
        2,
        range(5),
    ),
    "parallel-cifar": Experiment(
        {
            "parallel-cifar": (
                "--grid method=lsg",
                f"--neuron psn {AS_PUBLISHED}",
                f"--neuron sliding-psn --order 32 {AS_PUBLISHED}",
            )
        },
        "--dataset image-folder --arch sequential-cnn --width-multiplier 0.125 --epochs 3 --val-fraction 0.1",
        2,
        range(5),
    ),
    "max-resnet": Experiment(
        {"max-resnet": ("--grid arch=ms-resnet18,max-resnet18-2222,max-resnet18",)},
        "--dataset image-folder -T 2 --width-multiplier 0.125 --epochs 3 --val-fraction 0.1 --augment flip --method fixed --surrogate sigmoid "
        "--threshold 1 --decay 0.5 --input-gain 1-beta --detach-reset --norm bn --optimizer adamw --lr 1.5e-3 --weight-decay 0.06",
        2,
        range(3),
    ),
    "zeros-digits-dvs": Experiment({"zeros-digits-dvs": ZEROS}, "--dataset digits-dvs", 1, range(5), folder=False),
    "zeros-digits-dvs-more": Experiment(
        {"zeros-digits-dvs-more": ZEROS}, "--dataset digits-dvs", 1, range(5, 20), folder=False
    ),
    "zeros-n-mnist": Experiment(
        {"zeros-n-mnist": ZEROS}, "--dataset n-mnist --width-multiplier 0.125 --epochs 20", 1, range(5)
    ),
    "rates-digits-dvs": Experiment({"rates-digits-dvs": RATES}, "--dataset digits-dvs", 1, range(3), folder=False),
    "rates-cifar": Experiment(
        {"rates-cifar": RATES},
        "--dataset image-folder --arch vggsnn -T 2 --width-multiplier 0.25 --epochs 2 --val-fraction 0.1",
        1,
        range(3),
    ),
    "threshold": Experiment(
        {
            f"threshold-{v:g}": [f"--threshold {v:g} --grid method=fixed,trainable-decay,lsg width=1,{2 * v:g}"]
            for v in (0.25, 0.5, 1, 2)
        },
        "--dataset digits-dvs",
        1.5,
        range(5),
        ("lsg", "fixed"),  # of width 2 v
        folder=False,
    ),
    "decay": Experiment(
        {"decay": ["--grid method=fixed,trainable-decay,lsg decay=0.2,0.5,0.8,0.95"]},
        "--dataset digits-dvs",
        1.5,
        range(5),
        folder=False,
    ),
    "rules": Experiment(
        {
            "rules": [
                "--grid method=fixed,trainable-decay,lsg,mpd-agl,ds-atgo",
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
PLACES = ("run", "checkpoint")  # of this machine, in a result


def commands(
    experiment: Experiment, part: str, root: Path, data_dir: str | None, seeds: Sequence[int]
) -> list[list[list[str]]]:
    """The ablations of a part, in groups that run one after another."""
    groups, options = [], experiment.options.split()
    options += ["--data-dir", data_dir] if data_dir else []
    options += ["--margin", f"{experiment.margin:g}", "--threads", "1"]
    every = f"{seeds[0]}-{seeds[-1]}"
    for number, rows in enumerate(experiment.parts[part]):
        each = "{seed}" in rows
        groups.append(
            [
                ["lsg", "ablate", *options, *rows.format(root=root, seed=seed).split(), "--seeds", str(seed), "--out", str(out)]
                for seed in (seeds if each else [every])
                for out in [root / (f"{number}-{seed}" if each else str(number)) if number else root]
            ]
        )
    return groups


def run(name: str, options: argparse.Namespace) -> None:
    """Train missing runs, part by part, and write the record of all finished runs."""
    experiment, file = EXPERIMENTS[name], f"evidence-{name}"
    record = read(file) or {"commands": {}, "tables": {}}
    record.setdefault("runs", {})
    for part in [options.part] if options.part else experiment.parts:
        root = options.out / part
        restore(record["runs"].get(part, {}), root)
        for group in () if options.collect else commands(experiment, part, root, options.data_dir, options.seeds):
            # A command that runs several times at once shares its work.
            copies = group * options.processes if len(group) == 1 else group
            with ThreadPoolExecutor(options.processes) as pool:
                status = list(pool.map(lambda words: subprocess.call([*words, "-q"], stdout=subprocess.DEVNULL), copies))
            if any(status):
                sys.exit(f"{part}: failed: {shlex.join(group[0])}")
        if not root.exists():
            continue
        found = finished(without_sources(collect(root)))
        left = missing(found, experiment.seeds)
        if left:
            print(f"{part}: {left} runs are missing", file=sys.stderr)
        record["runs"][part] = kept(found, root) if left or options.seeds != experiment.seeds else {}
        record["machine"] = machine("numba")
        groups = commands(experiment, part, root, options.data_dir, experiment.seeds)
        record["commands"][part] = "\n    ".join(shown(words, options.out) for group in groups for words in group)
        record["tables"][part] = found.summary(experiment.margin / 100)
        record["pair"], record["margin"] = experiment.pair, experiment.margin / 100
        print(write(file, record), file=sys.stderr)


def kept(collection: Collection, root: Path) -> dict[str, dict[str, Any]]:
    """What a table needs of each run, by its folder: the files of :func:`restore`, without paths of this machine."""
    found = {}
    for cell in collection.cells:
        facts = rundir.read_facts(cell.path)
        settings = cell.config.replace(**dict.fromkeys(PATHS)).to_dict()
        config = {"settings": settings, **{name: facts[name] for name in ("schema", "precision", "data_digest")}}
        found[str(cell.path.relative_to(root))] = {
            rundir.CONFIG: config,
            rundir.RESULT: {name: value for name, value in (cell.result or {}).items() if name not in PLACES},
        }
    return found


def restore(runs: dict[str, dict[str, Any]], root: Path) -> None:
    """Write the :func:`kept` runs, which are then not repeated, to the folders that they had."""
    for folder, contents in runs.items():
        if not (root / folder).exists():
            (root / folder).mkdir(parents=True)
            for name, content in contents.items():
                places = PLACES if name == rundir.RESULT else ()  # null in older records
                files.write_json(root / folder / name, {key: value for key, value in content.items() if key not in places})


def finished(collection: Collection) -> Collection:
    """Only the finished runs."""
    return replace(collection, cells=[cell for cell in collection.cells if cell.result is not None])


def missing(collection: Collection, seeds: range) -> int:
    """Number of runs with these seeds that the rows of finished runs lack; further seeds do not count."""
    done = sum(cell.config.seed in seeds for cell in collection.cells)
    return len({cell.row for cell in collection.cells}) * len(seeds) - done


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
    """A table for each part, and one for the pair of rows that is also compared: accuracies in percent, differences in points.

    p has Holm's correction over the rows of all parts.
    """
    head = ("difference", "95 % interval", "p", "detectable", "verdict")
    parts = {
        part: [row | {"p": statistics.compared(_differences(row, result["rows"][0]))["p"]} for row in result["rows"]]
        for part, result in record["tables"].items()
    }
    statistics.correct([row for rows in parts.values() for row in rows])
    found = []
    for part, rows in parts.items():
        on_test = any(row["best_chosen_on"] == "test" for row in rows)  # otherwise "best" is the accuracy already
        table = Table(part, ("", "accuracy", "n", "last epoch", *(["best test epoch"] if on_test else []), *head))
        for row in rows:
            best = [_mean(row["best"])] if on_test else []
            table.rows.append((row["label"], _accuracy(row), row["n"], _mean(row["last"]), *best, *_compared(row)))
        found.append(table)
    if record.get("pair"):
        found.append(Table("{} compared with {}".format(*record["pair"]), ("", "rows", *head), _pairs(record)))
    return found


def _pairs(record: dict[str, Any]) -> list[Sequence[Cell]]:
    """The comparison of two rows of each part, the last ones of two methods, with Holm's correction over the parts."""
    found = []
    for part, result in record["tables"].items():
        first, second = ([row for row in result["rows"] if row["method"] == method][-1] for method in record["pair"])
        differences = _differences(first, second)
        row = statistics.compared(differences, margin=record["margin"])
        found.append((part, f"{first['label']}; {second['label']}", row))
    statistics.correct([row for _, _, row in found])
    return [(part, labels, *_compared(row)) for part, labels, row in found]


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[float]:
    """Of the accuracies of two rows, per seed that both have."""
    accuracies = [dict(zip(row["seeds"], row["accuracies"], strict=True)) for row in (first, second)]
    return [accuracies[0][seed] - accuracies[1][seed] for seed in sorted(set(first["seeds"]) & set(second["seeds"]))]


def _accuracy(row: dict[str, Any]) -> str:
    """Mean and standard deviation, unless more than one run diverged."""
    diverged = len(row["diverged"])
    if diverged > 1:
        return f"unstable, {diverged} diverged"
    spread = "" if row["std"] is None else f" +- {_points(row['std'])}"
    mean = "-" if row["mean"] is None else f"**{_points(row['mean'])}{spread}**"
    return mean + (", 1 diverged" if diverged else "")


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


def _span(text: str) -> range:
    """The seeds from a text like 0-1."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Run one experiment and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--part", help="only this part")
    parser.add_argument("--seeds", type=_span, help="first and last of the seeds to run, as 0-1; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs") / "evidence", help="folder of the runs")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="at once; default: all cores")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    experiment = EXPERIMENTS[options.name]
    if experiment.folder and not (options.collect or options.data_dir):
        parser.error(f"{options.name}: found no --data-dir, expected the folder of the data set")
    options.seeds = options.seeds or experiment.seeds
    if not set(options.seeds) <= set(experiment.seeds):
        parser.error(f"--seeds: found {options.seeds}, expected seeds of the plan, {experiment.seeds}")
    if options.part and options.part not in experiment.parts:
        parser.error(f"--part: found {options.part}, expected one of {', '.join(experiment.parts)}")
    if shutil.which("lsg") is None:
        parser.error("lsg is not on the PATH")
    run(options.name, options)


if __name__ == "__main__":
    main()
