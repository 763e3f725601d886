"""Loading many samples into one array."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lsgcli.data import parallel
from lsgcli.data.base import Dataset, Listing, Sample
from lsgcli.data.frames import FULL
from lsgcli.errors import DataError


@dataclass
class Outcome:
    """What came of loading samples.

    Attributes:
        left_out: row -> what is wrong, for samples that could not be loaded; their rows are zeros. Empty unless
            ``skip_bad`` is set.
        saturated: how many values of frames reached the most that they hold, and in how many recordings.
    """

    left_out: dict[int, str] = field(default_factory=dict)
    saturated: tuple[int, int] = (0, 0)

    def note(self) -> dict[str, Any]:
        """As JSON types."""
        return {"left_out": self.left_out, "saturated": self.saturated}

    @classmethod
    def noted(cls, note: Mapping[str, Any] | None, rows: int) -> "Outcome | None":
        """From what :meth:`note` became in a file about so many rows; None where that is no such note."""
        try:
            left_out = {int(row): problem for row, problem in (note or {})["left_out"].items()}
            values, recordings = (note or {})["saturated"]
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        good = all(0 <= row < rows and isinstance(problem, str) for row, problem in left_out.items())
        if not (good and type(values) is int and type(recordings) is int):
            return None
        return cls(left_out, (values, recordings))


def load_all(
    dataset: Dataset,
    listing: Listing,
    samples: Sequence[Sample],
    out: np.ndarray,
    workers: int,
    report: Callable[[int], None],
) -> Outcome:
    """Load ``samples`` into the rows of ``out``, in up to ``workers`` processes where that pays.

    Args:
        report: is told how many more samples are done.

    Raises:
        DataError: a sample is damaged, and ``skip_bad`` is not set.
    """
    left_out: dict[int, str] = {}
    values = recordings = 0
    counts = out.dtype == np.uint8 and not listing.static
    work = functools.partial(_load, dataset, replace(listing, samples=()))
    for row, loaded in parallel.each(work, samples, workers):
        if isinstance(loaded, str):
            out[row], left_out[row] = 0, loaded
        else:
            out[row] = loaded
            full = int(np.count_nonzero(loaded == FULL)) if counts else 0
            values, recordings = values + full, recordings + (full > 0)
        report(1)
    return Outcome(dict(sorted(left_out.items())), (values, recordings))


def readable(dataset: Dataset, listing: Listing, sample: Sample) -> bool:
    """Whether a sample can be loaded now."""
    try:
        dataset.load(sample, listing)
    except DataError:
        return False
    return True


def _load(dataset: Dataset, listing: Listing, sample: Sample) -> np.ndarray | str:
    """One prepared sample, or what is wrong with it."""
    try:
        return dataset.load(sample, listing)
    except DataError as error:
        if not dataset.config.skip_bad:
            raise
        return error.message
