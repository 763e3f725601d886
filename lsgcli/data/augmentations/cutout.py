"""Cutout (DeVries and Taylor, 2017, arXiv:1708.04552)."""

import numpy as np

from lsgcli.data.augment import augmentation, without_square

SIDE = 16  # pixels


@augmentation("cutout", 2, late=True)
def cutout(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Set a square of 16 pixels to the mean; its centre is any pixel, so that part of it may lie outside."""
    return without_square(x, u, SIDE)
