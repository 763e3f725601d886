"""N-MNIST: handwritten digits recorded by an event camera performing three saccades (Orchard et al. 2015)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from lsgcli.data.datasets.base import EventDataset, Listing
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, by_hand
from lsgcli.data.folders import scan_folders
from lsgcli.registry import register

SENSOR = 34  # pixels, square
FOLDERS = {"train": "Train", "test": "Test"}
PAGE = "https://data.mendeley.com/datasets/468j46mzdv"
FILES = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
REMOTE = {
    "train": RemoteFile(
        "train.zip",
        (FILES + "39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
        md5="20959b8e626244a1b502305a9e6e2031",
        about=1_010_000_000,
        page=PAGE,
    ),
    "test": RemoteFile(
        "test.zip",
        (FILES + "05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
        md5="69ca8762b2fe404d9b9bad1103e97832",
        about=170_000_000,
        page=PAGE,
    ),
}


@register("dataset", "n-mnist")
class NMnist(Downloaded, EventDataset):
    """``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in data/NMNIST, as in tonic, or directly in --data-dir."""

    folder = "NMNIST"
    archives = REMOTE
    unpacked = FOLDERS
    title = "N-MNIST, 60,000 + 10,000 recordings of digits, 10 classes; downloaded if missing."
    published: ClassVar[Mapping[str, int]] = {"train": 60_000, "test": 10_000}
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 10,
        "size": 32,
        "resize": "centre",
        "width_multiplier": 0.25,
        "epochs": 40,
        "batch_size": 16,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "weight_decay": 5e-4,
        "loss": "tet",
        "val_fraction": 0.0,
        "augment": "crop,rotate",
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        names = {split: FOLDERS[split] for split in splits}
        folder = self.obtain(splits)
        classes, samples = scan_folders(folder, names, (".bin",), {split: by_hand([REMOTE[split]], folder) for split in splits})
        return Listing(classes, samples, {"sensor": [SENSOR, SENSOR]})
