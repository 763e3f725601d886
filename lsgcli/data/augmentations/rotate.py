"""Random rotation by a small angle; helps with handwriting, where writers slant."""

import math

import numpy as np

from lsgcli.data.augment import augmentation, turning, warped

MOST = math.radians(15)


@augmentation("rotate", 1)
def rotate(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Turn about the centre by up to 15 degrees, nearest pixel; zeros come in at the corners."""
    return warped(x, turning((2 * u[:, 0] - 1) * MOST))
