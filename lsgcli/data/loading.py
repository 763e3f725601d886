"""Loading many samples into one array."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lsgcli.data import parallel
from lsgcli.data.base import Dataset, Listing, Sample
from lsgcli.errors import DataError


def load_all(
    dataset: Dataset,
    listing: Listing,
    samples: Sequence[Sample],
    out: np.ndarray,
    workers: int,
    report: Callable[[int], None],
) -> dict[int, str]:
    """Load ``samples`` into the rows of ``out``, in up to ``workers`` processes where that pays.

    Args:
        report: is told how many more samples are done.

    Returns:
        Row -> what is wrong, for samples that could not be loaded; their rows are zeros. Empty unless ``skip_bad`` is set.

    Raises:
        DataError: a sample is damaged, and ``skip_bad`` is not set.
    """
    bad: dict[int, str] = {}
    work = functools.partial(_load, dataset, replace(listing, samples=()))
    for row, loaded in parallel.each(work, samples, workers):
        if isinstance(loaded, str):
            out[row], bad[row] = 0, loaded
        else:
            out[row] = loaded
        report(1)
    return dict(sorted(bad.items()))


def _load(dataset: Dataset, listing: Listing, sample: Sample) -> np.ndarray | str:
    """One prepared sample, or what is wrong with it."""
    try:
        return dataset.load(sample, listing)
    except DataError as error:
        if not dataset.config.skip_bad:
            raise
        return error.message
