"""Random roll, the augmentation of CIFAR10-DVS in TET (Deng et al., ICLR 2022)."""

import numpy as np

from lsgcli.data.augment import augmentation, moved, whole

MOST = 5  # pixels


@augmentation("roll", 2)
def roll(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Move by up to 5 pixels along both axes; what leaves at one edge comes in at the other."""
    shift = whole(u, -MOST, MOST)
    return moved(x, shift[:, 0], shift[:, 1], MOST, wrap=True)
