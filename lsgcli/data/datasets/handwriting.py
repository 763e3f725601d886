"""The 1797 handwritten digits that come with scikit-learn (UCI optdigits): data that need no download."""

import hashlib
from functools import cache

import numpy as np

from lsgcli.data.datasets.base import Listing, Sample
from lsgcli.data.resampling import triangle

CLASSES = tuple("0123456789")
TEST_SHARE = 0.2


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) float32 in 0..1, bright ink on dark, and labels (1797,) int64."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images / 16).astype(np.float32), found.target.astype(np.int64)


def listing(splits: tuple[str, ...], info: dict[str, object] | None = None) -> Listing:
    """The digits with a fixed split: of each class, the fifth whose digests come first are the test part."""
    labels = digits()[1]
    test = {key for label in range(10) for key in _first_fifth(np.flatnonzero(labels == label).tolist())}
    samples = [
        Sample(str(i), int(label), "test" if str(i) in test else "train", i, "scikit-learn")
        for i, label in enumerate(labels.tolist())
    ]
    return Listing(CLASSES, tuple(sample for sample in samples if sample.split in splits), info or {})


def _first_fifth(members: list[int]) -> list[str]:
    keys = sorted((str(i) for i in members), key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest())
    return keys[: round(TEST_SHARE * len(keys))]


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """A small square image (s, s) as (size, size), bilinear."""
    weights = triangle(size, image.shape[0])
    return np.asarray(weights @ image @ weights.T)
