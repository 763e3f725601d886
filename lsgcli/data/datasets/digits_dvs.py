"""Handwritten digits before a simulated event camera: the default, embedded, ready in seconds."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lsgcli.data import random
from lsgcli.data.datasets import handwriting
from lsgcli.data.datasets.base import EventDataset, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.data.simulation import camera
from lsgcli.registry import register

SENSOR = 32  # pixels, square
INK = 24  # pixels that a digit's 8 are enlarged to


@register("dataset", "digits-dvs")
class DigitsDvs(EventDataset):
    """1797 digits of scikit-learn, each moved once around a circle before a 32x32 event camera."""

    title = "1797 handwritten digits before a simulated event camera, 10 classes; embedded, no download."
    embedded = True
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 4,
        "size": 32,
        "resize": "bin",
        "width_multiplier": 0.125,
        "epochs": 12,
        "batch_size": 32,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "loss": "tet",
        "augment": "rotate",
        "val_fraction": 0.1,
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        info = {"sensor": [SENSOR, SENSOR], "simulator_version": camera.VERSION}
        return handwriting.listing(splits, info)

    def events(self, sample: Sample) -> Events:
        """The events of one sample, upright."""
        margin = (SENSOR - INK) // 2
        image = np.pad(handwriting.enlarge(handwriting.digits()[0][sample.source], INK), margin)
        seed = int(random.ids([f"digits-dvs/{sample.key}"])[0])
        return camera.simulate(image, np.random.Generator(np.random.PCG64(seed)))

    def preparation(self) -> dict[str, Any]:
        """What a prepared sample depends on."""
        return {**super().preparation(), "sensor": SENSOR, "ink": INK}
