"""Handwritten digits as still images: embedded, for quick tries of static input."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.datasets import handwriting
from lsgcli.data.datasets.base import ImageDataset, Listing, Sample
from lsgcli.registry import register


@register("dataset", "digits")
class Digits(ImageDataset):
    """1797 digits of scikit-learn, enlarged; the same images and the same split as digits-dvs."""

    title = "1797 handwritten digits as still images, 10 classes; embedded, no download."
    channels = 1
    packed = False
    embedded = True
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 4,
        "size": 16,
        "width_multiplier": 0.125,
        "epochs": 15,
        "batch_size": 32,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "loss": "tet",
        "augment": "none",
        "val_fraction": 0.1,
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        return handwriting.listing(splits)

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        image = handwriting.enlarge(handwriting.digits()[0][sample.source], self.size)
        return np.round(image * 255).astype(np.uint8)
