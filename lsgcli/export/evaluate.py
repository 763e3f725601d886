"""Evaluation of an exported network: :func:`lsgcli.training.evaluate.evaluate` for a :class:`~lsgcli.export.Runner`."""

import dataclasses
from typing import Any

from torch import Tensor

from lsgcli.data.bundle import DataBundle, Split
from lsgcli.export import Runner
from lsgcli.training.evaluate import Evaluation, measure


def evaluate(runner: Runner, split: Split, bundle: DataBundle, **options: Any) -> Evaluation:
    """Accuracy, loss and confusion matrix on ``split``, and firing rates of the layers whose spikes the format exposes.

    Args:
        options: of :func:`~lsgcli.training.evaluate.measure`.
    """
    fired: dict[str, list[float]] = {}

    def logits(x: Tensor) -> Tensor:
        outcome = runner.run(x)
        for name, spikes in outcome.spikes.items():
            total = fired.setdefault(name, [0.0, 0.0])
            total[0] += float(spikes.double().sum())
            total[1] += spikes.numel()
        return outcome.logits

    result = measure(logits, split, bundle, **options)
    return dataclasses.replace(result, firing_rate={name: spikes / neurons for name, (spikes, neurons) in fired.items()})
