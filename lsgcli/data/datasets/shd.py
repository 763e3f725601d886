"""SHD, the Spiking Heidelberg Digits: spoken digits as spikes of an artificial cochlea (Cramer et al., IEEE TNNLS 2020)."""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lsgcli.data import hdf5
from lsgcli.data.datasets.base import EventDataset, Listing, Sample, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp
from lsgcli.data.guard import foreign
from lsgcli.data.readers import base as readers
from lsgcli.registry import register

UNITS = 700  # channels of the cochlea
ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun")
CLASSES = (*ENGLISH, *GERMAN)
PAGE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"


@register("dataset", "shd")
class Shd(Downloaded, EventDataset):
    """``shd_train.h5`` and ``shd_test.h5`` in data/SHD, as in tonic, or directly in --data-dir."""

    title = "SHD, 8156 + 2264 spoken digits as spikes of 700 channels, 20 classes; downloaded if missing."
    folder = "SHD"
    archives = {
        split: RemoteFile(f"{file}.zip", (f"https://zenkelab.org/datasets/{file}.zip",), md5, size, PAGE, content=file)
        for split, file, md5, size in (
            ("train", "shd_train.h5", "f3252aeb598ac776c1b526422d90eecb", 131_000_000),
            ("test", "shd_test.h5", "1503a5064faa34311c398fb0a1ed0a6f", 38_000_000),
        )
    }
    line = True
    channels = 1
    published = {"train": 8156, "test": 2264}
    class_names = CLASSES
    sensor_size = (UNITS, 1)
    preset = {
        "arch": "mlp",
        "epochs": 30,
        "batch_size": 64,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "T": 100,
        "size": 140,
        "slicing": "window",
        "window_us": 10_000,
        "resize": "bin",
    }

    def find(self, splits: Splits) -> Listing:
        folder = self.obtain(splits)
        samples = []
        for split in splits:
            path = folder / self.archives[split].content
            version = stamp(path)
            for i, label in enumerate(_arrays(path).labels.tolist()):
                samples.append(Sample(f"{split}/{i:05d}", label, split, (str(path), i), f"{i}:{version}"))
        return Listing(CLASSES, tuple(samples), {"sensor": [*self.sensor_size]})

    def events(self, sample: Sample) -> Events:
        """The spikes of one recording: x is the channel, y is 0, all are ON."""
        path, index = sample.source
        with foreign(f"{path}: recording {index}", "times in seconds and channels"):
            arrays = _arrays(Path(path))
            t = np.asarray(arrays.times[index], np.float64)
            x = np.asarray(arrays.units[index])
            spikes = Events(x, np.zeros(len(x), np.uint16), np.rint(t * 1e6), np.ones(len(x), bool), (UNITS, 1))
            return readers.checked(spikes, self.sensor)


class _Arrays(NamedTuple):
    """Content of a file: times (seconds) and units of all recordings, read when indexed; labels (N,)."""

    times: Any
    units: Any
    labels: np.ndarray


@lru_cache(maxsize=4)
def _arrays(path: Path) -> _Arrays:
    with foreign(path, "an HDF5 file with spikes/times, spikes/units and labels", hint="Download it again.", extra="shd"):
        content = hdf5.opened(path)
        times = content["spikes/times"]
        units = content["spikes/units"]
        labels = np.asarray(content["labels"], np.int64)
        if not len(times) == len(units) == len(labels):
            raise ValueError(f"{len(times)} times, {len(units)} units, {len(labels)} labels")
        names = [name.decode().lower().replace("ü", "ue") for name in content.get("extra/keys", ())]
        if names and tuple(names) != CLASSES:
            raise ValueError(f"extra/keys {', '.join(names)}, not the classes of SHD")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(CLASSES):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}, not 0 to {len(CLASSES) - 1}")
    return _Arrays(times, units, labels)
