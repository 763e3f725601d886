"""Random crop of the image padded with zeros: the usual augmentation of CIFAR."""

import numpy as np

from lsgcli.data.augment import augmentation, moved, whole

PAD = 4  # pixels on each side


@augmentation("crop", 2)
def crop(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Move by up to 4 pixels along both axes; zeros come in at the edges."""
    shift = whole(u, -PAD, PAD)
    return moved(x, shift[:, 0], shift[:, 1], PAD, wrap=False)
