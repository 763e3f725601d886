"""Experiment E3 of docs/evidence.md: gain, gradient norm, signal-to-noise ratio and agreement with finite differences by depth and width.

    python -m benchmarks.depth --data-dir FOLDER                             # everything; CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.depth --data-dir FOLDER --residual none --layers 8  # a piece, to run side by side with others
    python -m benchmarks.depth --collect                                     # only the record, from all finished pieces

Each piece runs ``lsg ablate`` for the widths, and measures the gradient flow of each cell at the start and the end of its training. A repeated
command resumes: finished cells and measurements are not repeated. Runs are written to ``--out``, the record of all pieces to
``evidence-depth``; it keeps the pieces that are not in ``--out``, and settings and results of the runs of an
unfinished piece, so that ``--seeds 0`` can be completed on another machine.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import evidence
from benchmarks.measuring import machine, read, without_folders, write
from benchmarks.tables import Table, show

RESIDUALS, LAYERS = {"none": "plain", "add": "residual"}, (8, 20, 34)  # layers of neurons; there is one more layer of weights
# 5 rows, because the width has no effect on the last two; width 1 is the baseline.
AXES = ("method=fixed,lsg,isometric", "width=1,0.5,2")
OPTIONS = "--dataset image-folder --arch resnet19 -T 2 --width-multiplier 0.125 --epochs 3 --threads 1"
QUICK = "--dataset image-folder --arch resnet19 -T 2 --width-multiplier 0.03125 --epochs 1 --threads 1"
MARGIN = 2  # percentage points
BATCHES = 64  # mini-batches of the signal-to-noise ratio
WEIGHTS = 8  # per layer, that are compared with finite differences
SEEDS = range(2)
FURTHER = ("none", 20)  # the network that was trained with further seeds
HIDDEN = ("alpha", "coverage", "firing_rate")  # shown of its last layer of neurons
LIMITS = {"grad_ratio": 1e-2, "snr": 0.1, "mismatch": 0.5}  # below which a measure counts as lost
MOMENTS = {"start": "at the start", "end": "after training"}
Cell = dict[str, Any]  # a network, a width and a seed, with what was measured


def command(root: Path, options: argparse.Namespace) -> list[str]:
    """The ablation of the network whose runs are in ``root``."""
    residual, layers = root.name.split("-")
    words = ["lsg", "ablate", *(QUICK if options.quick else OPTIONS).split(), "--data-dir", options.data_dir]
    words += ["--residual", residual, "--depth", str(int(layers) + 1), "--grid", *AXES]
    return [*words, "--seeds", options.seeds, "--margin", str(MARGIN), "--out", str(root)]


def measure(root: Path, data_dir: str, batches: int, weights: int) -> None:
    """Measure the gradient flow of all finished cells below ``root``, in fp32 on one thread, unless it was measured before."""
    from lsgcli.analysis import Sample
    from lsgcli.data.prepare import prepare
    from lsgcli.runs.flow import full_flow
    from lsgcli.store import checkpoint
    from lsgcli.store.rundir import LAST
    from lsgcli.sweeps.collect import collect
    from lsgcli.system import files
    from lsgcli.system.device import set_up
    from lsgcli.training.initialise import new_model

    cells = [cell for cell in collect(root).cells if (cell.path / LAST).exists()]
    left = [(cell, moment) for cell in cells for moment in MOMENTS if not (cell.path / f"depth-{moment}.json").exists()]
    bundle = prepare(cells[0].config.replace(data_dir=data_dir), ("train",)) if left else None
    for cell, moment in left:
        assert bundle is not None
        config = cell.config.replace(precision="fp32", threads=1)
        compute = set_up(config)
        model = checkpoint.load(cell.path / LAST)[0]
        if moment == "start":
            model = new_model(config, len(bundle.classes), bundle.channels, bundle.height)
        flow = full_flow(model.to(compute.device), bundle, config, compute, batches, sample=Sample(weights))
        files.write_json(cell.path / f"depth-{moment}.json", flow)
        print(f"{cell.path}, {moment}: loss {flow['loss']:.3f}", file=sys.stderr)


def collected(out: Path, before: dict[str, Any]) -> dict[str, Any]:
    """All finished pieces, of a folder or of an earlier record: ``cells``, with medians over the layers and the state of the last one after
    training, and ``tables`` of ``lsg ablate`` and unfinished ``runs``, by network."""
    from lsgcli.sweeps.collect import collect
    from lsgcli.system.schema import read_lines

    def key(cell: Cell) -> tuple[Any, ...]:
        return tuple(cell[name] for name in ("residual", "layers", "rule", "seed"))

    known = {key(cell): cell for cell in before["cells"]}
    cells: list[Cell] = []
    tables, runs = dict(before["tables"]), {}
    for residual, layers in itertools.product(RESIDUALS, LAYERS):
        root = out / f"{residual}-{layers}"
        if not root.exists():
            cells += [cell for cell in before["cells"] if key(cell)[:2] == (residual, layers)]
            continue
        collection = evidence.finished(collect(root))
        tables[root.name] = {"rows": collection.summary(MARGIN / 100)["rows"]}
        if evidence.missing(collection, SEEDS):
            runs[root.name] = evidence.kept(collection, root)
        for cell in collection.cells:
            record = cell.result
            assert record is not None
            rule = f"width {cell.config.width:g}" if cell.config.method == "fixed" else cell.config.method
            found: Cell = {"residual": residual, "layers": layers, "rule": rule, "seed": cell.config.seed}
            found |= known.get(key(found), {})  # what was measured on another machine
            for moment in MOMENTS:
                path = cell.path / f"depth-{moment}.json"
                if path.exists():
                    found[moment] = medians(json.loads(path.read_text(encoding="utf-8")))
            if epochs := read_lines(cell.path / "gradient-flow.jsonl"):
                found["hidden"] = {name: float(f"{epochs[-1]['layers'][-1][name]:.3g}") for name in HIDDEN}
            cells.append(found | {"accuracy": record["accuracy"], "last": record.get("test_accuracy_last")})
    return {"cells": cells, "tables": tables, "runs": runs}


def medians(flow: dict[str, Any]) -> dict[str, float | None]:
    """Medians over the layers: of each measure, and of the measured gain over each prediction."""
    layers = flow["layers"]
    found = {key: median(layer[key] for layer in layers) for key in ("gain", "alpha", "coverage", *LIMITS)}
    for name in ("kaiming", "weights"):
        ratios = [
            layer["gain"] / layer["gain_predicted"][name]
            for layer in layers
            if layer["gain"] is not None and layer["gain_predicted"][name]
        ]
        found[f"gain_over_{name}"] = median(ratios)
    return found


def median(values: Any) -> float | None:
    """Of the values that are not None."""
    known = [value for value in values if value is not None]
    return float(f"{statistics.median(known):.4g}") if known else None


def over_seeds(cells: Sequence[Cell], moment: str, key: str) -> float | None:
    """Median over the seeds of a measure."""
    return median(cell.get(moment, {}).get(key) for cell in cells)


def tables(record: dict[str, Any]) -> list[Table]:
    """Accuracy; gain over its predictions; the measures by depth, at the start and after training; the last layer by seed."""
    groups: dict[tuple[str, str], dict[int, list[Cell]]] = {}
    for cell in record["cells"]:
        groups.setdefault((cell["residual"], cell["rule"]), {}).setdefault(cell["layers"], []).append(cell)
    head = [f"{layers} layers" for layers in LAYERS]
    found = evidence.tables(record)
    for moment, when in MOMENTS.items():
        table = Table(
            f"Measured gain, {when}: median over layers; over 8 v_th^2 E[h^2]; over the prediction from the weights",
            ["", *head],
        )
        keys = ("gain", "gain_over_kaiming", "gain_over_weights")
        for (residual, rule), by_depth in groups.items():
            cells = [[over_seeds(by_depth.get(layers, []), moment, key) for key in keys] for layers in LAYERS]
            table.rows.append([f"{RESIDUALS[residual]}, {rule}", *map(shown, cells)])
        found.append(table)
        title = f"Gradient norm over that of the last layer; signal-to-noise ratio; cosine with finite differences, {when}: median over layers"
        table = Table(title, ["", *head, "norm < 0.01", "SNR < 0.1", "cosine < 0.5"])
        for (residual, rule), by_depth in groups.items():
            cells = [[over_seeds(by_depth.get(layers, []), moment, key) for key in LIMITS] for layers in LAYERS]
            lost = [
                next(
                    (str(n) for n, values in zip(LAYERS, cells, strict=True) if (v := values[i]) is not None and v < limit), "-"
                )
                for i, limit in enumerate(LIMITS.values())
            ]
            table.rows.append([f"{RESIDUALS[residual]}, {rule}", *map(shown, cells), *lost])
        found.append(table)
    further = [cell for cell in record["cells"] if (cell["residual"], cell["layers"]) == FURTHER and "hidden" in cell]
    return [*found, _of_last_layer(further)] if further else found


def _of_last_layer(cells: Sequence[Cell]) -> Table:
    """State of the last layer of neurons beside the accuracy, by seed."""
    seeds = sorted({cell["seed"] for cell in cells})
    by_rule: dict[str, dict[int, str]] = {}
    for cell in cells:
        state = shown([cell["hidden"][name] for name in HIDDEN])
        by_rule.setdefault(cell["rule"], {})[cell["seed"]] = f"**{100 * cell['accuracy']:.1f}**; {state}"
    table = Table(
        f"Accuracy in percent; width alpha, coverage and firing rate of `hidden` after training, {RESIDUALS[FURTHER[0]]} network of {FURTHER[1]} layers, by seed",
        ["", *map(str, seeds)],
    )
    table.rows += [[rule, *(found.get(seed, "-") for seed in seeds)] for rule, found in by_rule.items()]
    return table


def shown(values: Sequence[float | None]) -> str:
    """Several numbers in a cell of a table."""
    return "; ".join("-" if value is None else f"{value:.3g}" for value in values)


def main() -> None:
    """Run pieces, and write the record of all finished ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of the images")
    parser.add_argument("--residual", nargs="+", choices=RESIDUALS, default=list(RESIDUALS))
    parser.add_argument("--layers", nargs="+", type=int, choices=LAYERS, default=LAYERS, help="layers of neurons")
    parser.add_argument("--seeds", default=f"{SEEDS[0]}-{SEEDS[-1]}")
    parser.add_argument("--out", type=Path, default=Path("runs") / "evidence" / "depth", help="folder of the runs")
    parser.add_argument("--collect", action="store_true", help="run nothing, only write the record")
    parser.add_argument(
        "--quick", action="store_true", help="a narrow network, one epoch; prints the tables and writes no record"
    )
    options = parser.parse_args()
    if not (options.collect or options.data_dir):
        parser.error("found no --data-dir, expected the folder of the images")
    before = {"cells": [], "tables": {}, "runs": {}}
    if not options.quick:
        before |= read("evidence-depth") or {}
        for name, runs in before["runs"].items():
            evidence.restore(runs, options.out / name)
    for residual, layers in () if options.collect else itertools.product(options.residual, options.layers):
        root = options.out / f"{residual}-{layers}"
        words = command(root, options)
        print(" ".join(map(without_folders, words)), file=sys.stderr)
        subprocess.run([*words, "-q"], stdout=subprocess.DEVNULL, check=True)
        measure(root, options.data_dir, *((4, 2) if options.quick else (BATCHES, WEIGHTS)))
    record = {"machine": machine("numba"), **collected(options.out, before)}
    if options.quick:
        show(tables(record))
    else:
        print(write("evidence-depth", record), file=sys.stderr)


if __name__ == "__main__":
    main()
