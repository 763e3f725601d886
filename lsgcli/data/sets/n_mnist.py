"""N-MNIST: handwritten digits recorded by an event camera under three saccades (Orchard et al. 2015)."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.data.base import SPLITS, Listing
from lsgcli.data.folders import scan_folders
from lsgcli.data.guard import foreign
from lsgcli.data.recordings import EventDataset
from lsgcli.registry import register

SENSOR = 34  # pixels, square
FOLDERS = {"train": "Train", "test": "Test"}


@register("dataset", "n-mnist")
class NMnist(EventDataset):
    """``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in --data-dir, or in NMNIST below it, where tonic puts them."""

    title = "N-MNIST, 60,000 + 10,000 recordings of digits, 10 classes; downloaded if absent."
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

    def scan(self, splits: tuple[str, ...] = SPLITS) -> Listing:
        """List the samples of the given splits."""
        names = {split: FOLDERS[split] for split in splits}
        classes, samples = scan_folders(self._folder(splits), names, (".bin",))
        return Listing(classes, samples, 2, False, {"sensor": [SENSOR, SENSOR]})

    def _folder(self, splits: tuple[str, ...]) -> Path:
        below = self.root / "NMNIST"
        for root in (self.root, below):
            if any((root / folder).is_dir() for folder in FOLDERS.values()):
                return root
        for split in splits:
            _download(self.root, split)
        return below


def _download(root: Path, split: str) -> None:
    archive = f"{split}.zip"
    hint = (
        f"Fetch {archive} of N-MNIST by hand (https://data.mendeley.com/datasets/468j46mzdv), unpack it in {root / 'NMNIST'}"
        f" so that {root / 'NMNIST' / FOLDERS[split]}/0/ exists, or give --data-dir a folder with Train/ and Test/ in it."
    )
    expected = f"{FOLDERS[split]}/<digit>/*.bin there, or a download of {archive} that works"
    with foreign(root, expected, hint=hint), contextlib.redirect_stdout(sys.stderr):
        from tonic.datasets import NMNIST

        NMNIST(save_to=str(root), train=split == "train")
