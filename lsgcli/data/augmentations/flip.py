"""Random horizontal flip."""

import numpy as np

from lsgcli.data.augment import augmentation


@augmentation("flip", 1)
def flip(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Mirror left and right, with probability 0.5."""
    chosen = u[:, 0] < 0.5
    flipped = x.copy()
    flipped[chosen] = x[chosen][..., ::-1]
    return flipped
