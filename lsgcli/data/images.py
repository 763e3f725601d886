"""Data sets of still images, shown to the network at every timestep."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data.base import Dataset, Listing, Sample
from lsgcli.data.guard import foreign

VERSION = 1  # raise it when the same pixels give other images


class ImageDataset(Dataset):
    """A data set whose samples are images (C, S, S) of uint8. A subclass lists them and reads one as (H, W) or (H, W, C)."""

    static = True

    @abstractmethod
    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored, (H, W, 3) or (H, W), uint8.

        Raises:
            DataError: its file is damaged.
        """

    def load(self, sample: Sample, listing: Listing) -> np.ndarray:
        """An image (C, S, S) of uint8.

        Raises:
            DataError: its file is damaged.
        """
        return self._prepared(self.pixels(sample))

    def load_file(self, path: Path, listing: Listing) -> np.ndarray:
        """An image file as (C, S, S) of uint8, in grey where C is 1."""
        return self._prepared(read_image(path, "L" if listing.channels == 1 else "RGB"))

    def _prepared(self, pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(np.atleast_3d(fit(pixels, self.size)), -1, 0))

    def shape(self, listing: Listing) -> tuple[int, ...]:
        """Shape of one prepared sample."""
        return (listing.channels, self.size, self.size)

    def preparation(self) -> dict[str, Any]:
        """What a prepared sample depends on."""
        return {"size": self.config.size}

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Versions of the code that prepares these samples."""
        return {**super().versions(samples), "images": VERSION}


def fit(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W[, C]) uint8 to (size, size[, C]), bilinear with antialias; the aspect is not kept."""
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file as uint8, (H, W, 3), or (H, W) where Pillow's ``mode`` is ``L``.

    Raises:
        DataError: not an image, or damaged.
    """
    with foreign(path, "an image", hint="Replace it, or take it out of the folder."):
        from PIL import Image

        with Image.open(path) as image:
            return np.asarray(image.convert(mode))


def image_suffixes() -> tuple[str, ...]:
    """The endings of file names that Pillow can read."""
    from PIL import Image

    Image.init()
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN))
