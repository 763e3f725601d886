"""Loading of many samples into one array."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data import parallel
from lsgcli.data.datasets.base import Dataset, EventDataset, Sample
from lsgcli.data.frames import FULL
from lsgcli.errors import DataError


@dataclass
class Outcome:
    """Outcome of loading samples.

    Attributes:
        left_out: row -> problem, for samples that could not be loaded; their rows are zeros. Empty unless ``skip_bad`` is set.
        saturated: number of saturated frame values, and of recordings with such values.
        medians: median number of events and duration in microseconds of the recordings; None for images.
    """

    left_out: dict[int, str] = field(default_factory=dict)
    saturated: tuple[int, int] = (0, 0)
    medians: tuple[int, int] | None = None

    def note(self) -> dict[str, Any]:
        """As JSON types."""
        return {"left_out": self.left_out, "saturated": self.saturated, "medians": self.medians}

    @classmethod
    def noted(cls, note: Mapping[str, Any] | None, rows: int) -> "Outcome | None":
        """Inverse of :meth:`note`, for the given number of rows; None if the note is invalid."""
        try:
            left_out = {int(row): problem for row, problem in (note or {})["left_out"].items()}
            values, recordings = (note or {})["saturated"]
            medians = (note or {})["medians"]
            medians = None if medians is None else (int(medians[0]), int(medians[1]))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None
        good = all(0 <= row < rows and isinstance(problem, str) for row, problem in left_out.items())
        if not (good and type(values) is int and type(recordings) is int):
            return None
        return cls(left_out, (values, recordings), medians)


def load_all(
    dataset: Dataset, samples: Sequence[Sample], out: np.ndarray, workers: int, report: Callable[[int], None]
) -> Outcome:
    """Load ``samples`` into the rows of ``out``, in up to ``workers`` processes if that is faster.

    Args:
        report: called with the number of newly finished samples.

    Raises:
        DataError: a sample is damaged and ``skip_bad`` is not set.
    """
    left_out: dict[int, str] = {}
    lengths: list[tuple[int, int]] = []
    values = recordings = 0
    counts = out.dtype == np.uint8 and not dataset.static
    work = functools.partial(_load, dataset)
    for row, loaded in parallel.each(work, samples, workers):
        if isinstance(loaded, str):
            out[row], left_out[row] = 0, loaded
        else:
            out[row], length = loaded
            lengths += [] if length is None else [length]
            full = int(np.count_nonzero(out[row] == FULL)) if counts else 0
            values, recordings = values + full, recordings + (full > 0)
        report(1)
    events, duration = (int(median) for median in np.median(lengths or [(0, 0)], axis=0))
    return Outcome(dict(sorted(left_out.items())), (values, recordings), (events, duration) if lengths else None)


Found = tuple[str, DataError | None]  # a path, and its error if already known
Loaded = np.ndarray | DataError


def load_file(dataset: Dataset, found: Found) -> Loaded:
    """A prepared sample from any file, or the error.

    Defined here because worker processes should not import torch.
    """
    path, problem = found
    try:
        return problem or dataset.load_file(Path(path))
    except DataError as error:
        return error


def readable(dataset: Dataset, sample: Sample) -> bool:
    """Whether a sample can be loaded."""
    try:
        dataset.load(sample)
    except DataError:
        return False
    return True


def _load(dataset: Dataset, sample: Sample) -> tuple[np.ndarray, tuple[int, int] | None] | str:
    """One prepared sample and, for a recording, its number of events and duration; or the error."""
    try:
        if not isinstance(dataset, EventDataset):
            return dataset.load(sample), None
        events = dataset.events(sample)
        return dataset.frames(events, sample), (len(events), int(events.t[-1]) - int(events.t[0]) + 1)
    except DataError as error:
        if not dataset.config.skip_bad:
            raise
        return error.message
