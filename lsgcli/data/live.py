"""Frames computed from recordings during training, for augmentations of events."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsgcli.data.datasets.base import Sample
from lsgcli.data.events import Events

if TYPE_CHECKING:
    from lsgcli.data.datasets.base import EventDataset

Changed = Callable[[int, Events, tuple[int, int]], Events]  # position in the batch, events, sensor -> events


class Live:
    """Some samples of a data set of recordings."""

    def __init__(self, dataset: "EventDataset", samples: Sequence[Sample]):
        self.dataset, self.samples = dataset, samples

    def part(self, rows: np.ndarray) -> "Live":
        """The samples at ``rows``."""
        return Live(self.dataset, [self.samples[i] for i in rows])

    def frames(self, rows: np.ndarray, change: Changed) -> np.ndarray:
        """Frames (B, T, 2, S, S) of the samples at ``rows`` (B,), with augmented events.

        Raises:
            DataError: a recording is damaged or missing.
        """
        made = []
        for position, sample in enumerate(self.samples[i] for i in rows):
            events = change(position, self.dataset.events(sample), self.dataset.sensor)
            made.append(self.dataset.frames(events, sample))
        return np.stack(made)
