"""DVS128 Gesture (Amir et al. 2017): hand and arm gestures of 29 people, in tonic's edition.

In this edition, recordings are split into one file per gesture, and times are rounded to milliseconds.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.datasets.base import EventDataset, Listing, Sample, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, figshare
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp, visible
from lsgcli.data.guard import foreign
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError
from lsgcli.registry import register
from lsgcli.system.files import check_regular

SIDE = 128
CLASSES = (
    "Hand clapping",
    "Right hand wave",
    "Left hand wave",
    "Right arm cw",
    "Right arm ccw",
    "Left arm cw",
    "Left arm ccw",
    "Arm roll",
    "Air drums",
    "Air guitar",
    "Other gestures",
)
LABELS = {f"{label}.npy": label for label in range(len(CLASSES))}
PAGE = "https://research.ibm.com/interactive/dvsgesture/"


@register("dataset", "dvs-gesture")
class DvsGesture(Downloaded, EventDataset):
    """``ibmGestureTrain/user*/<label>.npy`` and ``ibmGestureTest/`` in data/DVSGesture, as in tonic, or directly in --data-dir."""

    title = "DVS128 Gesture, 1077 + 264 recordings of gestures, 11 classes; downloaded if missing."
    folder = "DVSGesture"
    archives = {
        split: RemoteFile(f"{content}.tar.gz", figshare(number), md5, size, PAGE, content)
        for split, content, number, md5, size in (
            ("train", "ibmGestureTrain", 38022171, "3a8f0d4120a166bac7591f77409cb105", 2_400_000_000),
            ("test", "ibmGestureTest", 38020584, "56070e45dadaa85fff82e0fbfbc06de5", 700_000_000),
        )
    }
    published = {"train": 1077, "test": 264}
    class_names = CLASSES
    sensor_size = (SIDE, SIDE)
    # No flips, which would turn right hands into left hands.
    preset = EventDataset.preset | {"T": 16, "epochs": 60, "augment": "roll"}

    def find(self, splits: Splits) -> Listing:
        folder = self.obtain(splits)
        samples = []
        for split in splits:
            samples += _part(folder / self.archives[split].content, split)
        return Listing(CLASSES, tuple(samples), {"sensor": [*self.sensor_size]})

    def read(self, path: Path) -> Events:
        """The events of a ``.npy`` of this edition, or of a recording in another format."""
        if path.suffix.lower() != ".npy":
            return super().read(path)
        with foreign(path, "a numpy array (N, 4) of x, y, polarity and milliseconds"):
            check_regular(path)
            # Memory-mapped, so that a header with a wrong size is detected before memory is allocated.
            x, y, p, t = np.lib.format.open_memmap(path, mode="r").T
            return readers.checked(Events(x, y, np.rint(t * 1000.0), p, (SIDE, SIDE)), self.sensor)


def _part(folder: Path, split: str) -> list[Sample]:
    """The recordings of one part: ``user<number>_<lighting>/<label>.npy``."""
    samples = []
    users = [user for user in visible(folder) if user.is_dir()]
    for user in users:
        for entry in visible(Path(user.path)):
            if not entry.name.endswith(".npy"):
                continue
            if entry.name not in LABELS:
                expected = f"0.npy to {len(CLASSES) - 1}.npy"
                raise DataError(
                    f"{entry.path}: found a name that is not a label, expected {expected}", "Remove it from the folder."
                )
            key = f"{split}/{user.name}/{entry.name}"
            samples.append(Sample(key, LABELS[entry.name], split, entry.path, stamp(entry)))
    if not samples:
        raise DataError(f"{folder}: found no user*/<label>.npy, expected recordings", "Extract its archive again.")
    return samples
