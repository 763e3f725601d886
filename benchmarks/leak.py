"""Experiment E8 of docs/evidence-plans.md: what does the leak of QKFormer's published code change?

    python -m benchmarks.leak cifar --data-dir FOLDER                    # CIFAR-10's images, train/<class>/ and test/<class>/
    python -m benchmarks.leak cifar --data-dir FOLDER --kind leaky --seeds 0
    python -m benchmarks.leak events --data-dir FOLDER                   # simulated recordings of them, in the same layout
    python -m benchmarks.leak cifar --show

Each network is trained with or without ``--leak``, and evaluated both ways, with batches of several sizes of test samples in the order of
their classes and mixed. Runs are in ``--out``; each is added to ``benchmarks/results/evidence-leak-NAME.json`` when it ends, and a repeated
command continues. The recordings: ``lsg data simulate IMAGES/PART FOLDER/PART --per-class 100 --format npz`` for both parts.
"""

import argparse
import dataclasses
import logging
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.remedies import Records
from benchmarks.tables import Table, show
from lsgcli.data.bundle import Split

SHORTENED = {
    "recipe": "qkformer",
    "warmup_epochs": 1,
    "cooldown_epochs": 0,
    "mixup": 0.0,
    "augment": "flip",
    "precision": "fp32",
}
DATA: dict[str, dict[str, Any]] = {
    "cifar": SHORTENED
    | {"dataset": "image-folder", "arch": "qkformer", "width_multiplier": 0.125, "T": 4, "size": 16, "epochs": 5},
    "events": SHORTENED
    | {"dataset": "event-folder", "arch": "qkformer-dvs", "width_multiplier": 0.25, "T": 8, "size": 64, "epochs": 14},
}
KINDS = {"clean": {}, "leaky": {"leak": True}}  # trainings; --no-leak is the default
BATCHES = {"cifar": (8, 64), "events": (8, 16, 64)}  # the published ones are 64 and 16
ORDERS = ("class", "mixed")
MIXED = 0  # seed of the mixed order


def evaluated(run: Path, data: str) -> list[dict[str, Any]]:
    """Test accuracies of the last network of a run, and firing rates of the output neurons of its attentions, without and with the leak, by
    batch size and order of the samples.

    Without the leak, neither matters, and with batches of 1 the order does not: these are measured once.
    """
    from lsgcli.models.integer import deployed
    from lsgcli.runs.open import open_checkpoint
    from lsgcli.store.rundir import LAST
    from lsgcli.training.evaluate import FiringRates, measure

    opened = open_checkpoint(run / LAST, {}, ("test",), environment={"threads": 1})
    test = opened.bundle.parts["test"]
    cases = [(False, 64, "class"), (True, 1, "class"), *((True, size, order) for size in BATCHES[data] for order in ORDERS)]
    found = []
    for leak, size, order in cases:
        network = deployed(with_leak(opened.model, leak))
        rates = FiringRates(network)

        def logits(x: Tensor, network: torch.nn.Module = network) -> Tensor:
            with torch.inference_mode():
                return network(x)  # type: ignore[no-any-return]

        result = measure(logits, ordered(test, order), opened.bundle, batch_size=size)
        outputs = {name: rate for name, rate in rates.close().items() if name.endswith(".project")}
        case = {"leak": leak, "batch_size": size, "order": order}
        found.append(case | {"accuracy": result.accuracy, "loss": result.loss, "firing_rate": outputs})
    return found


def with_leak(network: Any, leak: bool) -> Any:
    """The network in evaluation mode with the same weights, with or without the leak."""
    from lsgcli import models

    other = models.create(dataclasses.replace(network.spec, leak=leak))
    other.load_state_dict(network.state_dict())
    return other.eval()


def ordered(split: Split, order: str) -> Split:
    """The samples sorted by class, or in a random order that depends on nothing else."""
    if order == "class":
        return split.part(np.argsort(split.y, kind="stable"))
    return split.part(np.random.default_rng(MIXED).permutation(len(split)))


def experiment(records: Records, options: argparse.Namespace, kind: str, seed: int) -> None:
    """Train and evaluate a network, unless it is recorded."""
    from lsgcli import api
    from lsgcli.store.rundir import read_result

    key = f"{kind}, seed {seed}"
    if key in records:
        return
    run = options.out / f"{options.data}-{kind}-{seed}"
    settings = DATA[options.data] | KINDS[kind] | {"seed": seed} | ({"epochs": options.epochs} if options.epochs else {})
    end = read_result(run) or api.train(run, **settings, data_dir=options.data_dir, threads=1, workers=0)
    found = evaluated(run, options.data)
    records.add(key, {"accuracy": end["test_accuracy_last"], "settings": settings, "evaluations": found})


def tables(runs: dict[str, Any]) -> list[Table]:
    """Mean accuracy over the seeds of each kind of training and evaluation, and its difference from that without the leak."""
    found = Table(
        "Test accuracy, %: mean and standard deviation over seeds; difference from the evaluation without the leak, points",
        ("training", "evaluation", "batch", "order", "seeds", "accuracy", "difference", "by seed"),
    )
    for kind in KINDS:
        own = [run["evaluations"] for key, run in sorted(runs.items()) if key.startswith(f"{kind}, ")]
        for same in zip(*own, strict=True):
            accuracies = [100 * one["accuracy"] for one in same]
            differences = [100 * (one["accuracy"] - run[0]["accuracy"]) for one, run in zip(same, own, strict=True)]
            spread = f" +- {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
            case = ("leaky" if same[0]["leak"] else "clean", same[0]["batch_size"], same[0]["order"])
            changes = (f"{statistics.mean(differences):+.1f}", " ".join(f"{change:+.1f}" for change in differences))
            found.rows.append((kind, *case, len(own), f"{statistics.mean(accuracies):.1f}{spread}", *changes))
    return [found]


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="of training")
    parser.add_argument("--seeds", default="0-2", help="first and last seed")
    parser.add_argument("--epochs", type=int, help="default: as in the plan")
    parser.add_argument("--out", type=Path, default=Path("runs") / "leak", help="folder of the runs")
    parser.add_argument("--show", action="store_true", help="only the table of the record")
    options = parser.parse_args()
    records = Records(f"leak-{options.data}")
    if options.show:
        show(tables(records.runs))
        return
    logging.getLogger("lsg").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for kind in options.kind:
            experiment(records, options, kind, seed)


if __name__ == "__main__":
    main()
