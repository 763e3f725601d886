"""Images of the user, with one folder per class."""

from pathlib import Path

import numpy as np

from lsgcli.data.datasets.base import ImageDataset, Listing, Sample, image_suffixes, read_image
from lsgcli.data.folders import scan_own
from lsgcli.data.splits import RULES
from lsgcli.registry import register


@register("dataset", "image-folder")
class ImageFolder(ImageDataset):
    """Images in ``train/<class>/`` and ``test/<class>/``, in any format supported by Pillow, converted to RGB and resized to --size."""

    title = "Your own images: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."
    rules = tuple(RULES)

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        classes, samples = scan_own(self.config, splits, image_suffixes())
        return Listing(classes, samples)

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return read_image(Path(sample.source))
