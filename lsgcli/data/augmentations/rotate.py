"""Random rotation by a small angle; helps with handwriting, where writers slant."""

import math

import numpy as np

from lsgcli.data.augment import augmentation, picked

MOST = math.radians(15)


@augmentation("rotate", 1)
def rotate(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Turn about the centre by up to 15 degrees, nearest pixel; zeros come in at the corners."""
    height, width = x.shape[-2:]
    angle = ((2 * u[:, 0] - 1) * MOST)[:, None, None]
    row = np.arange(height)[:, None] - (height - 1) / 2
    column = np.arange(width)[None, :] - (width - 1) / 2
    source_row = np.rint(np.cos(angle) * row - np.sin(angle) * column + (height - 1) / 2).astype(np.int64)
    source_column = np.rint(np.sin(angle) * row + np.cos(angle) * column + (width - 1) / 2).astype(np.int64)
    outside = (source_row < 0) | (source_row >= height) | (source_column < 0) | (source_column >= width)
    return picked(x, np.where(outside, -1, source_row * width + source_column))
