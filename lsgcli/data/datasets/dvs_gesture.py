"""DVS128 Gesture (Amir et al. 2017): hand and arm gestures of 29 people, in tonic's edition.

In this edition, recordings are split into one file per gesture, and times are rounded to milliseconds.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.datasets.base import EventDataset, Listing, Sample
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, by_hand, figshare
from lsgcli.data.events import Events, in_order
from lsgcli.data.folders import stamp, visible
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError, MissingPart
from lsgcli.registry import register

SIDE = 128
LATEST = 1 << 50  # milliseconds; as microseconds, they fit int64
FOLDERS = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
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
PAGE = "https://research.ibm.com/interactive/dvsgesture/"
REMOTE = {
    "train": RemoteFile(
        "ibmGestureTrain.tar.gz",
        figshare(38022171),
        md5="3a8f0d4120a166bac7591f77409cb105",
        about=2_400_000_000,
        page=PAGE,
    ),
    "test": RemoteFile(
        "ibmGestureTest.tar.gz",
        figshare(38020584),
        md5="56070e45dadaa85fff82e0fbfbc06de5",
        about=700_000_000,
        page=PAGE,
    ),
}
HINT = "Download it again, or remove it from the folder."


@register("dataset", "dvs-gesture")
class DvsGesture(Downloaded, EventDataset):
    """``ibmGestureTrain/user*/<label>.npy`` and ``ibmGestureTest/`` in data/DVSGesture, as in tonic, or directly in --data-dir."""

    folder = "DVSGesture"
    archives = REMOTE
    unpacked = FOLDERS
    title = "DVS128 Gesture, 1077 + 264 recordings of gestures, 11 classes; downloaded if missing."
    published: ClassVar[Mapping[str, int]] = {"train": 1077, "test": 264}
    # No flips, which would turn right hands into left hands.
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 16,
        "size": 48,
        "width_multiplier": 0.25,
        "epochs": 60,
        "batch_size": 16,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "loss": "tet",
        "augment": "roll",
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        folder = self.obtain(splits)
        samples = [sample for split in splits for sample in _part(folder / FOLDERS[split], split)]
        return Listing(CLASSES, tuple(samples), {"sensor": [SIDE, SIDE]})

    def read(self, path: Path) -> Events:
        """The events of a ``.npy`` of this edition, or of a recording in another format."""
        if path.suffix.lower() != ".npy":
            return super().read(path)
        with foreign(path, "a numpy array (N, 4) of x, y, polarity and milliseconds", hint=HINT):
            # Memory-mapped, so that a header with a wrong size is detected before memory is allocated.
            found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[1] != 4 or found.dtype.kind not in "iuf":
            shown = f"an array {found.shape} of {found.dtype}" if isinstance(found, np.ndarray) else "several arrays"
            raise DataError(f"{path}: found {shown}, expected numbers of shape (N, 4): x, y, polarity, milliseconds", hint=HINT)
        if not len(found):
            raise DataError(f"{path}: found no events, expected at least one", hint=HINT)
        for column, (name, most) in enumerate((("x", SIDE - 1), ("y", SIDE - 1), ("polarity", 1), ("time", LATEST))):
            _check(path, name, found[:, column], most)
        t = np.rint(found[:, 3] * 1000.0) if found.dtype.kind == "f" else found[:, 3].astype(np.int64) * 1000
        return in_order(found[:, 0], found[:, 1], t, found[:, 2] > 0, (SIDE, SIDE))


def _check(path: Path, name: str, values: np.ndarray, most: int) -> None:
    """Check values: x and y are integers inside the sensor, times are not negative."""
    good = (values >= 0) & (values <= most)  # false for NaN
    if values.dtype.kind == "f" and name != "time":
        good &= values == np.trunc(values)
    if not good.all():
        row = int(good.argmin())
        raise DataError(f"{path}: row {row}: found {name} {values[row]}, expected 0 to {most}", hint=HINT)


def _part(folder: Path, split: str) -> list[Sample]:
    """The recordings of one part: ``user<number>_<lighting>/<label>.npy``."""
    if not folder.is_dir():
        raise MissingPart(
            f"{folder}: the {split} part is missing, expected user*/<label>.npy in it",
            part=split,
            hint=by_hand([REMOTE[split]], folder.parent),
        )
    users = [entry for entry in visible(folder) if entry.is_dir()]
    samples = [
        Sample(f"{split}/{user.name}/{entry.name}", _label(entry.path), split, entry.path, stamp(entry))
        for user in users
        for entry in visible(Path(user.path))
        if entry.name.endswith(".npy")
    ]
    if not samples:
        raise DataError(f"{folder}: found no user*/<label>.npy, expected recordings", hint="Extract its archive again.")
    return samples


def _label(path: str) -> int:
    match = re.fullmatch(r"(\d{1,2})\.npy", Path(path).name)
    if match is None or int(match[1]) >= len(CLASSES):
        raise DataError(
            f"{path}: found a name that is not a label, expected 0.npy to {len(CLASSES) - 1}.npy",
            hint="Remove it from the folder.",
        )
    return int(match[1])
