"""Handwritten digits that are part of the package and require no download, as images and as simulated recordings.

``digits.npz`` contains 1797 images of 8 x 8 pixels, with values 0 to 16, from the test part of E. Alpaydin and C. Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, licence CC BY 4.0, in the order in which
``sklearn.datasets.load_digits`` returns them.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from lsgcli.data import camera, random
from lsgcli.data.datasets.base import EventDataset, ImageDataset, Listing, Sample, Splits
from lsgcli.data.events import Events
from lsgcli.data.frames import triangle
from lsgcli.registry import register
from lsgcli.system.schema import Record

CLASSES = tuple("0123456789")
TEST_SHARE = 0.2
SENSOR = 32  # pixels, square
INK = 24  # size of the enlarged digits, in pixels
PRESET = EventDataset.preset | {"T": 4, "width_multiplier": 0.125, "batch_size": 32, "val_fraction": 0.1}


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8) float32 in 0..1, bright ink on dark, and labels (1797,) int64."""
    with np.load(Path(__file__).with_name("digits.npz")) as found:
        return (found["images"] / 16).astype(np.float32), found["labels"].astype(np.int64)


def listing(splits: Splits, info: dict[str, object] | None = None) -> Listing:
    """The digits with a fixed split: the test part is the fifth of each class with the smallest digests."""
    labels = digits()[1]
    test = set()
    for label in range(10):
        numbers = np.flatnonzero(labels == label).tolist()
        members = sorted(numbers, key=lambda number: hashlib.blake2b(str(number).encode(), digest_size=8).digest())
        test |= set(members[: round(TEST_SHARE * len(members))])
    samples = [
        Sample(str(i), label, "test" if i in test else "train", i, "scikit-learn") for i, label in enumerate(labels.tolist())
    ]
    return Listing(CLASSES, tuple(sample for sample in samples if sample.split in splits), info or {})


def enlarge(image: np.ndarray, size: int) -> np.ndarray:
    """A small square image (s, s) as (size, size), bilinear."""
    weights = triangle(size, image.shape[0])
    return np.asarray(weights @ image @ weights.T)


@register("dataset", "digits")
class Digits(ImageDataset):
    """1797 digits (UCI), enlarged; the same images and the same split as digits-dvs."""

    title = "1797 handwritten digits as images, 10 classes; embedded, no download."
    channels = 1
    cached = False
    embedded = True
    preset = PRESET | {"size": 16, "epochs": 15, "augment": "none"}

    def find(self, splits: Splits) -> Listing:
        return listing(splits)

    def pixels(self, sample: Sample) -> np.ndarray:
        return np.round(enlarge(digits()[0][sample.source], self.config.size) * 255).astype(np.uint8)


@register("dataset", "digits-dvs")
class DigitsDvs(EventDataset):
    """1797 digits (UCI), each moved once around a circle in front of a simulated 32x32 event camera."""

    title = "1797 handwritten digits recorded by a simulated event camera, 10 classes; embedded, no download."
    embedded = True
    preset = PRESET | {"size": 32, "resize": "bin", "epochs": 12, "augment": "rotate"}

    def find(self, splits: Splits) -> Listing:
        return listing(splits, {"sensor": [SENSOR, SENSOR], "simulator_version": camera.VERSION})

    def events(self, sample: Sample) -> Events:
        margin = (SENSOR - INK) // 2
        image = np.pad(enlarge(digits()[0][sample.source], INK), margin)
        seed = int(random.ids([f"digits-dvs/{sample.key}"])[0])
        return camera.simulate(image, np.random.Generator(np.random.PCG64(seed)))

    def preparation(self) -> Record:
        return {**super().preparation(), "sensor": SENSOR, "ink": INK}
