"""Neuromorphic data augmentation (Li et al., ECCV 2022), the part that comes after the flip: use ``flip,nda``."""

import math

import numpy as np

from lsgcli.data.augment import augmentation, turning, warped, whole, without_square
from lsgcli.data.augmentations.roll import roll

ANGLE = math.radians(30)
SHEAR = math.tan(math.radians(30))
CUTOUT = 8  # pixels


@augmentation("nda", 3)
def nda(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of four, drawn per sample: roll by up to 5 pixels, turn or shear by up to 30 degrees, cut a square of 8 pixels out."""
    out, choice = np.empty_like(x), whole(u[:, 0], 0, len(MOVES) - 1)
    for index, move in enumerate(MOVES):
        chosen = choice == index
        if chosen.any():
            out[chosen] = move(x[chosen], u[chosen, 1:])
    return out


def _rotate(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return warped(x, turning((2 * u[:, 0] - 1) * ANGLE))


def _shear(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Rows slide over each other."""
    matrix = np.tile(np.eye(2), (len(x), 1, 1))
    matrix[:, 1, 0] = (2 * u[:, 0] - 1) * SHEAR
    return warped(x, matrix)


def _cutout(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    return without_square(x, u, CUTOUT)


MOVES = (roll.apply, _rotate, _shear, _cutout)
