"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), through torchvision."""

from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data.datasets.base import ImageDataset, Listing, Sample, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.guard import Damaged, foreign
from lsgcli.registry import register
from lsgcli.system.files import check_regular

FINE_LABELS = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""
SITE = "https://www.cs.toronto.edu/~kriz/"


def _archive(name: str, md5: str, size: int, content: str) -> dict[str, RemoteFile]:
    return {"all": RemoteFile(name, (SITE + name,), md5, size, SITE + "cifar.html", content)}


class Cifar(Downloaded, ImageDataset):
    """A CIFAR data set, in torchvision's directory layout.

    Attributes:
        source: name of torchvision's class.
    """

    source: str
    cached = False  # already one array
    published = {"train": 50_000, "test": 10_000}
    preset = ImageDataset.preset | {"epochs": 300, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "decay_lr": 3e-4}

    @property
    def home(self) -> Path:
        """The folder of the batches; the archive is in :attr:`root`."""
        return self.root / self.folder

    def find(self, splits: Splits) -> Listing:
        self.obtain(splits, self.root)
        found = {split: self._open(split) for split in splits}
        self._images = {split: one.data for split, one in found.items()}
        samples = [
            Sample(f"{split}/{i:05d}", label, split, i, one.tgz_md5)
            for split, one in found.items()
            for i, label in enumerate(one.targets)
        ]
        return Listing(tuple(next(iter(found.values())).classes), tuple(samples))

    def _open(self, split: str) -> Any:
        hint = (
            f"Only the published files are read, because they are pickles, which can run code: move {self.home} away to download "
            "the data set again, or put your images in folders for --dataset image-folder."
        )
        with foreign(self.home, f"the files of {self.source}", hint=hint):
            from torchvision import datasets

            kind = getattr(datasets, self.source)
            names = [name for name, _ in (*kind.train_list, *kind.test_list)]
            for name in (*names, kind.meta["filename"]):
                with foreign(self.home / name, "a file of the data set", hint=hint):
                    check_regular(self.home / name)
            try:
                return kind(root=str(self.root), train=split == "train", download=False)
            except RuntimeError as error:
                raise Damaged("found a file that differs from the published one") from error

    def pixels(self, sample: Sample) -> np.ndarray:
        return np.asarray(self._images[sample.split][sample.source])


@register("dataset", "cifar10")
class Cifar10(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 10 classes."""

    title = "CIFAR-10, 50,000 + 10,000 images, 10 classes; downloaded if missing."
    source = "CIFAR10"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    folder = "cifar-10-batches-py"
    archives = _archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071, folder)
    normalisation = ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784))


@register("dataset", "cifar100")
class Cifar100(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 100 classes (the fine labels)."""

    title = "CIFAR-100, 50,000 + 10,000 images, 100 classes; downloaded if missing."
    source = "CIFAR100"
    class_names = tuple(FINE_LABELS.split())
    folder = "cifar-100-python"
    archives = _archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437, folder)
    normalisation = ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047))
