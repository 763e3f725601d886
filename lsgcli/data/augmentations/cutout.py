"""Cutout (DeVries and Taylor, 2017, arXiv:1708.04552)."""

import numpy as np

from lsgcli.data.augment import augmentation, whole

SIDE = 16  # pixels


@augmentation("cutout", 2, late=True)
def cutout(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Set a square of 16 pixels to the mean; its centre is any pixel, so that part of it may lie outside."""
    rows, columns = (_within(u[:, axis], length) for axis, length in enumerate(x.shape[-2:]))
    keep = ~(rows[:, :, None] & columns[:, None, :])
    return x * keep.reshape(len(x), *[1] * (x.ndim - 3), *x.shape[-2:])


def _within(u: np.ndarray, length: int) -> np.ndarray:
    """(B, length) bool: which coordinates the square covers."""
    first = whole(u, 0, length - 1)[:, None] - SIDE // 2
    place = np.arange(length)
    return (place >= first) & (place < first + SIDE)
