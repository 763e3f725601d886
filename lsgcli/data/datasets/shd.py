"""SHD, the Spiking Heidelberg Digits: spoken digits as spikes of an artificial cochlea (Cramer et al., IEEE TNNLS 2020)."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.datasets.base import EventDataset, Listing, Sample
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, by_hand, unpack
from lsgcli.data.events import Events, in_order
from lsgcli.data.folders import stamp
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError, MissingPart
from lsgcli.registry import register

UNITS = 700  # channels of the cochlea
LATEST = 1_000_000  # seconds; a spoken digit takes about one
ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun")
PAGE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"
FILES = {"train": "shd_train.h5", "test": "shd_test.h5"}
REMOTE = {
    "train": RemoteFile(
        "shd_train.h5.zip",
        ("https://zenkelab.org/datasets/shd_train.h5.zip",),
        md5="f3252aeb598ac776c1b526422d90eecb",
        about=131_000_000,
        page=PAGE,
    ),
    "test": RemoteFile(
        "shd_test.h5.zip",
        ("https://zenkelab.org/datasets/shd_test.h5.zip",),
        md5="1503a5064faa34311c398fb0a1ed0a6f",
        about=38_000_000,
        page=PAGE,
    ),
}


@register("dataset", "shd")
class Shd(Downloaded, EventDataset):
    """``shd_train.h5`` and ``shd_test.h5`` in data/SHD, as in tonic, or directly in --data-dir."""

    folder = "SHD"
    archives = REMOTE
    unpacked = FILES
    title = "SHD, 8156 + 2264 spoken digits as spikes of 700 channels, 20 classes; downloaded if missing."
    line = True
    channels = 1
    published: ClassVar[Mapping[str, int]] = {"train": 8156, "test": 2264}
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "mlp",
        "T": 100,
        "size": 140,
        "slicing": "window",
        "window_us": 10_000,
        "resize": "bin",
        "epochs": 30,
        "batch_size": 64,
        "lr": 0.05,
        "decay_lr": 5e-3,
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        folder = self.obtain(splits)
        samples = [sample for split in splits for sample in _part(folder / FILES[split], split)]
        return Listing((*ENGLISH, *GERMAN), tuple(samples), {"sensor": [UNITS, 1]})

    def unpack(self, archive: Path, folder: Path, name: str) -> list[Path]:
        """Extract a part's archive, which contains the file ``name``, into ``folder``."""
        return unpack(archive, folder, self.telling(f"unpacking {archive.name}"))

    def events(self, sample: Sample) -> Events:
        """The spikes of one recording: x is the channel, y is 0, all are ON."""
        path, index = sample.source
        with foreign(path, f"spikes of recording {index}"):
            times, units, _ = _arrays(Path(path))
            t, x = np.asarray(times[index], np.float64), np.asarray(units[index])
        _check(f"{path}: recording {index}", t, x)
        micro = np.rint(t * 1e6).astype(np.int64)
        return in_order(x, np.zeros(len(x), np.uint16), micro, np.ones(len(x), bool), (UNITS, 1))


def _check(where: str, t: np.ndarray, x: np.ndarray) -> None:
    """Check times (seconds) and channels."""
    hint = "Download the file again."
    if t.shape != x.shape or t.ndim != 1:
        raise DataError(f"{where}: found times {t.shape} and channels {x.shape}, expected equal shapes", hint=hint)
    good = (x >= 0) & (x < UNITS) & (x == np.trunc(x))  # NaN is neither
    if not good.all():
        raise DataError(f"{where}: found channel {x[good.argmin()]}, expected an integer, 0 to {UNITS - 1}", hint=hint)
    good = np.abs(t) <= LATEST
    if not good.all():
        raise DataError(f"{where}: found time {t[good.argmin()]} s, expected at most {LATEST:,} s", hint=hint)


def _part(path: Path, split: str) -> list[Sample]:
    if not path.is_file():
        raise MissingPart(f"{path}: the {split} part is missing", part=split, hint=by_hand([REMOTE[split]], path.parent))
    labels = _arrays(path)[2]
    bad = np.flatnonzero((labels < 0) | (labels >= len(ENGLISH) + len(GERMAN)))
    if len(bad):
        raise DataError(
            f"{path}: recording {bad[0]}: found label {labels[bad[0]]}, expected 0 to 19", hint="Download it again."
        )
    version = stamp(path)
    return [Sample(f"{split}/{i:05d}", int(label), split, (str(path), i), f"{i}:{version}") for i, label in enumerate(labels)]


@lru_cache(maxsize=4)
def _arrays(path: Path) -> tuple[Any, Any, np.ndarray]:
    """Times (seconds) and units of all recordings, read when indexed, and the labels (N,)."""
    with foreign(path, "an HDF5 file with spikes/times, spikes/units and labels", hint="Download it again.", extra="shd"):
        import h5py

        content = h5py.File(path, "r")
        times, units, labels = content["spikes/times"], content["spikes/units"], np.asarray(content["labels"], np.int64)
    if not len(times) == len(units) == len(labels):
        raise DataError(f"{path}: found {len(times)} times, {len(units)} units, {len(labels)} labels, expected equal numbers")
    return times, units, labels
