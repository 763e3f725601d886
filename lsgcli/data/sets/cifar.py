"""What CIFAR-10 and CIFAR-100 share."""

import contextlib
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.base import SPLITS, Listing, Sample
from lsgcli.data.guard import foreign
from lsgcli.data.images import ImageDataset
from lsgcli.errors import DataError


class Cifar(ImageDataset):
    """A CIFAR of torchvision, read from --data-dir (default: data) or downloaded there.

    Attributes:
        source: name of torchvision's class.
        mean, std: per channel over the training images, 0..1 scale.
    """

    source: ClassVar[str]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    packed = False  # already one array
    downloads = True
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "resnet19",
        "T": 2,
        "size": 32,
        "epochs": 300,
        "batch_size": 128,
        "lr": 0.1,
        "weight_decay": 5e-4,
        "decay_lr": 3e-4,
        "augment": "crop,flip",
    }

    def scan(self, splits: tuple[str, ...] = SPLITS) -> Listing:
        """List the samples of the given splits."""
        found = {split: self._open(split) for split in splits}
        self._images = {split: one.data for split, one in found.items()}
        samples = [
            Sample(f"{split}/{i:05d}", label, split, i, one.tgz_md5)
            for split, one in found.items()
            for i, label in enumerate(one.targets)
        ]
        return Listing(tuple(next(iter(found.values())).classes), tuple(samples), 3, True)

    def _open(self, split: str) -> Any:
        with foreign(self.root, f"{self.source} there, or a download that works", hint=self._by_hand()):
            from torchvision import datasets

            kind = getattr(datasets, self.source)
            with contextlib.redirect_stdout(sys.stderr):
                try:
                    return kind(root=str(self.root), train=split == "train", download=self.fetches)
                except RuntimeError as error:  # its message speaks of arguments
                    if self.fetches:
                        raise
                    raise self._absent() from error

    def _absent(self) -> DataError:
        return DataError(
            f"{self.root}: found no {self.source}, or a damaged one, expected its files",
            hint=f"`lsg data prepare --dataset {self.config.dataset} --data-dir {self.root}` downloads it.",
        )

    def _by_hand(self) -> str:
        from torchvision import datasets

        kind = getattr(datasets, self.source)
        return f"Fetch {kind.url} by hand and put it in {self.root} as {kind.filename}; it is unpacked there at the next start."

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return np.asarray(self._images[sample.split][sample.source])

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Published mean and standard deviation."""
        return self.mean, self.std
