"""Whether a network needs the order of its frames: the same samples in other orders, and with all frames replaced by their mean.

Many event-based data sets hardly need that order: C. Ma et al., "Spiking Neural Networks for Temporal Processing", arXiv 2502.09449; X. Chen
et al., "Neuromorphic Sequential Arena", arXiv 2505.22035.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lsgcli.data import random
from lsgcli.data.bundle import DataBundle, Rows, Split
from lsgcli.errors import ConfigError
from lsgcli.sweeps.statistics import compared
from lsgcli.system.schema import Record
from lsgcli.training.evaluate import Evaluation

DRAWS = 5  # random orders of each sample


class Reordered(Rows):
    """Frames (N, T, C, H, W) of which sample n has those at ``order[n]``, (N, T), or T times their mean if that is None."""

    def __init__(self, x: np.ndarray | Rows, order: np.ndarray | None):
        super().__init__(x, np.arange(len(x)))  # type: ignore[arg-type]
        self.order = order

    def __getitem__(self, index: Any) -> np.ndarray:
        x = super().__getitem__(index)
        if self.order is None:
            return np.broadcast_to(x.mean(1, keepdims=True, dtype=np.float32), x.shape)
        return np.take_along_axis(x, self.order[index][:, :, None, None, None], 1)


def altered(bundle: DataBundle, split: Split) -> dict[str, list[Split]]:
    """The samples of a split with frames in ``random`` order (in :data:`DRAWS` splits), ``reversed``, and replaced by their ``mean``.

    Raises:
        ConfigError: samples are images, or have one frame.
    """
    frames = 1 if bundle.static else split.x.shape[1]
    if frames == 1:
        raise ConfigError(
            f"--time-test: found {'images' if bundle.static else 'samples of one frame'}, expected several frames per sample",
            "Evaluate a network trained on recordings, with -T above 1.",
        )

    def ordered(order: np.ndarray | None) -> Split:
        return dataclasses.replace(split, x=Reordered(split.x, order))

    draws = [np.argsort(random.uniforms(0, draw, split.ids, frames, "time-test"), 1) for draw in range(DRAWS)]
    backwards = np.broadcast_to(np.arange(frames)[::-1], (len(split), frames))
    return {"random": [ordered(draw) for draw in draws], "reversed": [ordered(backwards)], "mean": [ordered(None)]}


def time_test(split: Split, in_order: Evaluation, others: Mapping[str, Sequence[Evaluation]]) -> Record:
    """Accuracy by order of frames, as JSON types.

    Args:
        split: of the evaluations.
        in_order: with frames in order.
        others: with the splits of :func:`altered`.

    Returns:
        ``accuracy`` of frames in order; ``frames``: of each other order its ``accuracy`` (the mean over draws), ``difference`` from frames in
        order, and ``interval``, its 95 % confidence interval by Student's t over samples, of which each is 1 if classified correctly and 0
        otherwise; None if no sample differs.
    """

    def right(evaluations: Sequence[Evaluation]) -> np.ndarray:
        return np.mean([one.answers[:, 0].numpy() == split.y for one in evaluations], 0)

    found = {}
    for name, evaluations in others.items():
        correct = right(evaluations)
        test = compared((correct - right([in_order])).tolist())
        found[name] = {"accuracy": float(correct.mean()), "difference": test["difference"], "interval": test["interval"]}
    return {"accuracy": in_order.accuracy, "draws": DRAWS, "frames": found}
