"""Evaluation after few training steps: running statistics that are averages at first, and with a constant momentum.

    python -m benchmarks.running_statistics --data-dir FOLDER

FOLDER contains ``nmnist-dev``, ``dvs128-objects-dev`` and ``cifar10-png-dev``. Prints a table: accuracy on training
samples with the statistics of each batch, as in training, and in evaluation. Training itself is the same in both cases.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli.analysis.rules.layers import SilentLayers
from lsgcli.analysis.running import SAMPLES, Accuracies, accuracies
from lsgcli.config.resolve import resolve
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import batches
from lsgcli.data.bundle import DataBundle, spread
from lsgcli.data.prepare import prepare
from lsgcli.neurons.norms import TdBatchNorm
from lsgcli.system.device import Compute, set_up
from lsgcli.training.evaluate import evaluate
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients
from lsgcli.training.optim import Optimizers, schedule

SETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits"},
    "digits-dvs": {"dataset": "digits-dvs"},
    "N-MNIST": {"dataset": "n-mnist", "data_dir": "nmnist-dev"},
    "DVS128 objects": {"dataset": "event-folder", "data_dir": "dvs128-objects-dev"},
    "CIFAR-10 images": {"dataset": "image-folder", "data_dir": "cifar10-png-dev"},
}
SETTINGS = {"width_multiplier": 0.0625, "T": 4, "size": 32, "batch_size": 32, "augment": "none", "threads": 1}
STEPS = (10, 20, 40)


class Outcome(NamedTuple):
    """After training: both accuracies, and the number of layers that hardly fire in evaluation."""

    found: Accuracies
    silent: int


def outcome(config: RunConfig, bundle: DataBundle, compute: Compute, steps: int, *, averages: bool) -> Outcome:
    """The outcome of a run of so many steps; without ``averages``, with running statistics of a constant momentum, 0.1."""
    model = new_model(config, len(bundle.classes), bundle.channels, bundle.height)
    if not averages:
        for module in model.modules():
            if isinstance(module, TdBatchNorm):
                module.warm = True
    optimizers = Optimizers(model, config)
    epochs = (
        batches(bundle, bundle.train, config.batch_size, seed=config.seed, epoch=epoch, shuffle=True, drop_last=True)
        for epoch in itertools.count()
    )
    for step, batch in enumerate(itertools.islice(itertools.chain.from_iterable(epochs), steps)):
        model.train()
        gradients(model, batch, config, compute)
        optimizers.step(schedule(step, steps, config.replace(epochs=1)))
        model.end_step()
        optimizers.zero_grad()
    found = accuracies(model, batches(bundle, bundle.train, config.batch_size, shuffle=True, drop_last=True), compute)
    assert found is not None
    some = spread(bundle.train, SAMPLES)
    rates = evaluate(model, some, bundle, compute, batch_size=config.batch_size, also=("firing_rate",)).firing_rate
    return Outcome(found, sum(rate < SilentLayers.limit for rate in rates.values()))


def main(folder: Path) -> None:
    """Print the table."""
    print(
        "| data | steps | batch statistics | evaluation, constant momentum | evaluation | silent layers, constant momentum | silent layers |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, own in SETS.items():
        where = {"data_dir": str(folder / own["data_dir"])} if "data_dir" in own else {}
        config = resolve({**SETTINGS, **own, **where}, environment={})
        compute, bundle = set_up(config), prepare(config)
        for steps in STEPS:
            before, now = (outcome(config, bundle, compute, steps, averages=averages) for averages in (False, True))
            assert before.found.batch == now.found.batch
            accuracy = f"{now.found.batch:.2f} | {before.found.evaluation:.2f} | {now.found.evaluation:.2f}"
            print(f"| {name} | {steps} | {accuracy} | {before.silent} | {now.silent} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    main(parser.parse_args().data_dir)
