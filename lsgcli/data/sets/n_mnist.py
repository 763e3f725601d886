"""N-MNIST: handwritten digits recorded by an event camera under three saccades (Orchard et al. 2015)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.data.base import SPLITS, Listing
from lsgcli.data.fetching.download import RemoteFile
from lsgcli.data.fetching.obtain import Downloaded, under_way_in
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
        page=PAGE,
    ),
    "test": RemoteFile(
        "test.zip",
        (FILES + "05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
        md5="69ca8762b2fe404d9b9bad1103e97832",
        page=PAGE,
    ),
}


@register("dataset", "n-mnist")
class NMnist(Downloaded):
    """``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in --data-dir, or in NMNIST below it, where tonic puts them."""

    title = "N-MNIST, 60,000 + 10,000 recordings of digits, 10 classes; downloaded if absent."
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

    @classmethod
    def remote(cls, splits: tuple[str, ...] = SPLITS) -> tuple[RemoteFile, ...]:
        """What a download of these splits fetches."""
        return tuple(REMOTE[split] for split in splits)

    def scan(self, splits: tuple[str, ...] = SPLITS) -> Listing:
        """List the samples of the given splits."""
        names = {split: FOLDERS[split] for split in splits}
        folder = self._folder(splits)
        classes, samples = scan_folders(folder, names, (".bin",), {split: REMOTE[split].by_hand(folder) for split in splits})
        return Listing(classes, samples, 2, False, {"sensor": [SENSOR, SENSOR]})

    def _folder(self, splits: tuple[str, ...]) -> Path:
        below = self.root / "NMNIST"
        roots = (self.root, below)
        folder = next(filter(_there, roots), None) or under_way_in(roots, REMOTE.values()) or below
        self.complete(folder, {FOLDERS[split]: REMOTE[split] for split in splits}, _there(folder), any_archive=True)
        return folder


def _there(root: Path) -> set[str]:
    return {name for name in FOLDERS.values() if (root / name).is_dir()}
