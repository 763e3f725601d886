"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), through torchvision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.datasets.base import ImageDataset, Listing, Sample
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.guard import foreign
from lsgcli.registry import register

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


class Cifar(Downloaded, ImageDataset):
    """A CIFAR data set, in torchvision's directory layout.

    Attributes:
        source: name of torchvision's class.
        mean, std: per channel over the training images, on the 0..1 scale.
    """

    source: ClassVar[str]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    packed = False  # already one array
    published: ClassVar[Mapping[str, int]] = {"train": 50_000, "test": 10_000}
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

    @property
    def home(self) -> Path:
        """The folder of the batches; the archive is in :attr:`root`."""
        return self.root / self.folder

    def there(self, place: Path) -> set[str]:
        """The part ``all``, if the folder contains all batches."""
        kind = self._kind()
        names = [*(name for name, _ in (*kind.train_list, *kind.test_list)), kind.meta["filename"]]
        return {"all"} if all((place / self.folder / name).is_file() for name in names) else set()

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        self.obtain(splits, self.root)
        found = {split: self._open(split) for split in splits}
        self._images = {split: one.data for split, one in found.items()}
        samples = [
            Sample(f"{split}/{i:05d}", label, split, i, one.tgz_md5)
            for split, one in found.items()
            for i, label in enumerate(one.targets)
        ]
        return Listing(tuple(next(iter(found.values())).classes), tuple(samples))

    def _kind(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.source)

    def _open(self, split: str) -> Any:
        hint = f"Remove {self.home} to download the data set again."
        with foreign(self.home, f"the files of {self.source}, unchanged", hint=hint):
            return self._kind()(root=str(self.root), train=split == "train", download=False)

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return np.asarray(self._images[sample.split][sample.source])

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Published mean and standard deviation."""
        return self.mean, self.std


@register("dataset", "cifar10")
class Cifar10(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 10 classes."""

    title = "CIFAR-10, 50,000 + 10,000 images, 10 classes; downloaded if missing."
    source = "CIFAR10"
    folder = "cifar-10-batches-py"
    unpacked: ClassVar = {"all": folder}
    archives: ClassVar = {
        "all": RemoteFile(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            md5="c58f30108f718f92721af3b95e74349a",
            size=170_498_071,
            page=PAGE,
        )
    }
    mean = (0.49139968, 0.48215841, 0.44653091)
    std = (0.24703223, 0.24348513, 0.26158784)


@register("dataset", "cifar100")
class Cifar100(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 100 classes (the fine labels)."""

    title = "CIFAR-100, 50,000 + 10,000 images, 100 classes; downloaded if missing."
    source = "CIFAR100"
    folder = "cifar-100-python"
    unpacked: ClassVar = {"all": folder}
    archives: ClassVar = {
        "all": RemoteFile(
            "cifar-100-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            size=169_001_437,
            page=PAGE,
        )
    }
    mean = (0.50707516, 0.48654887, 0.44091784)
    std = (0.26733429, 0.25643846, 0.27615047)
