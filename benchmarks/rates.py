"""Firing rate, accuracy and time of a training step of networks trained with ``--rate-target``.

    python -m benchmarks.evidence rates-digits-dvs
    python -m benchmarks.evidence rates-cifar --data-dir FOLDER
    python -m benchmarks.rates                   # afterwards, from the runs of these experiments; a few minutes
    python -m benchmarks.rates --picture         # only docs/images/rates.svg, from the record

Every trained network takes gradient steps on one mini-batch of its training data, on one thread, with convolutions by spikes where that is
faster (``auto``) and with dense ones. All take turns, round after round. No other programs should run. The record is
``rates``.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence import EXPERIMENTS
from benchmarks.measuring import RESULTS, interleaved, machine, read, write
from benchmarks.plot import SETTINGS, svg
from benchmarks.tables import Table, show
from lsgcli.data.batches import batches
from lsgcli.report.drawing import COLOURS
from lsgcli.runs.open import open_checkpoint
from lsgcli.store.rundir import FULL_FLOW
from lsgcli.sweeps.collect import collect
from lsgcli.system.device import Convolutions
from lsgcli.training.losses import gradients

IMAGE = RESULTS.parents[1] / "docs" / "images" / "rates.svg"
PARTS = {"rates-digits-dvs": "digits-dvs", "rates-cifar": "CIFAR-10"}


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Of each experiment, its networks: target, seed, accuracy, mean firing rate over layers, and seconds of a step."""
    found = {}
    for part in PARTS:
        networks, work = [], {}
        collection = collect(folder / part)
        for cell in collection.cells:
            if cell.result is None:
                sys.exit(f"{cell.path}: not finished: python -m benchmarks.evidence {part}")
            model, _, config, bundle, compute = open_checkpoint(cell.path / "best.safetensors", {}, ("train",))
            assert bundle.train is not None
            batch = batches(bundle, bundle.train, config.batch_size, shuffle=True, drop_last=True).batch(0)
            flow = json.loads((cell.path / FULL_FLOW).read_text(encoding="utf-8"))
            network = {"target": config.rate_target, "seed": config.seed, "accuracy": cell.result["accuracy"]}
            network["rate"] = statistics.mean(layer["firing_rate"] for layer in flow["layers"])
            networks.append(network)
            for choice in ("auto", "dense"):
                ways = dataclasses.replace(compute, convolutions=Convolutions(choice))
                work[len(networks) - 1, choice] = partial(gradients, model.train(), batch, config, ways)
        print(f"{part}: {len(networks)} networks", file=sys.stderr)
        torch.set_num_threads(1)
        for (index, choice), seconds in interleaved(work, rounds, warm=1).items():
            networks[index].setdefault("seconds", {})[choice] = seconds
        found[part] = networks
    return found


def rows_of(networks: list[dict[str, Any]]) -> dict[float | None, list[dict[str, Any]]]:
    """The networks of each target."""
    return {
        target: [one for one in networks if one["target"] == target] for target in dict.fromkeys(n["target"] for n in networks)
    }


def milliseconds(networks: list[dict[str, Any]], choice: str) -> float:
    """Mean over seeds of the median time of a step."""
    return 1e3 * statistics.mean(one["seconds"][choice]["median"] for one in networks)


def tables(record: dict[str, Any]) -> list[Table]:
    """Means over seeds, and the standard deviation of the accuracy, by target."""
    head = ("--rate-target", "accuracy, %", "firing rate", "step with `auto`, ms", "dense, ms", "dense / `auto`")
    found = []
    for part, title in PARTS.items():
        table = Table(title, head)
        for target, networks in rows_of(record["parts"][part]).items():
            right = [100 * one["accuracy"] for one in networks]
            rate = statistics.mean(one["rate"] for one in networks)
            auto, dense = milliseconds(networks, "auto"), milliseconds(networks, "dense")
            accuracy = f"{statistics.mean(right):.1f} +- {statistics.stdev(right):.1f}"
            table.rows.append((target or "none", accuracy, f"{rate:.3f}", f"{auto:.0f}", f"{dense:.0f}", f"{dense / auto:.2f}"))
        found.append(table)
    return found


def picture(record: dict[str, Any]) -> str:
    """An SVG: accuracy, and time of a step, by firing rate; a point for each network."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        panels = figure.subplots(2, len(PARTS), sharex="col")
        for (above, below), (part, title) in zip(panels.T, PARTS.items(), strict=True):
            for target, networks in rows_of(record["parts"][part]).items():
                rates = [one["rate"] for one in networks]
                right = [100 * one["accuracy"] for one in networks]
                above.scatter(rates, right, s=14, color=COLOURS[0])
                above.annotate(
                    str(target or "no target"),
                    (statistics.mean(rates), max(right)),
                    (0, 5),
                    textcoords="offset points",
                    ha="center",
                )
                for choice, colour in (("dense", COLOURS[1]), ("auto", COLOURS[0])):
                    times = [1e3 * one["seconds"][choice]["median"] for one in networks]
                    below.scatter(rates, times, s=14, color=colour, label=choice if target is None else None)
            above.set_title(title, loc="left")
            above.set_ylabel("accuracy, %")
            above.margins(y=0.25)
            below.set_ylabel("training step, ms")
            below.set_xlabel("firing rate, mean over layers")
            below.set_ylim(bottom=0)
            below.set_xlim(left=0)
            for axis in (above, below):
                axis.spines[["top", "right"]].set_visible(False)
        panels[1][0].legend(frameon=False, loc="lower right")
        return svg(figure)


def main() -> None:
    """Measure, print the tables, write the record and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs") / "evidence", help="folder of the runs, as for benchmarks.evidence"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", action="store_true", help="only the picture, from the record")
    options = parser.parse_args()
    if not options.picture:
        parts = measure(options.out, options.rounds)
        commands = {
            name: f"python -m benchmarks.evidence {name}" + " --data-dir FOLDER" * EXPERIMENTS[name].folder for name in PARTS
        }
        write("rates", {"machine": machine("numba"), "threads": 1, "commands": commands, "parts": parts})
    record = read("rates")
    assert record is not None
    show(tables(record))
    IMAGE.write_text(picture(record), encoding="utf-8")
    print(IMAGE, file=sys.stderr)


if __name__ == "__main__":
    main()
