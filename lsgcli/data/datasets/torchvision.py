"""Data sets of torchvision: ``--dataset torchvision:FashionMNIST``."""

import hashlib
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.data.datasets.base import ImageDataset, Sample
from lsgcli.data.datasets.libraries import LibraryDataset, paths_of
from lsgcli.data.datasets.own import ImageFolder
from lsgcli.registry import register

log = logging.getLogger("lsg")


@register("dataset", "torchvision:NAME")
class Torchvision(LibraryDataset, ImageDataset):
    """The files of torchvision's class NAME, where torchvision has them below data/."""

    title = "Any classification set of torchvision, such as torchvision:SVHN; downloaded by torchvision if absent."
    library = "torchvision"
    sets = (
        *("Caltech101", "Caltech256", "CIFAR10", "CIFAR100", "Country211", "DTD", "EuroSAT", "FashionMNIST", "FER2013"),
        *("FGVCAircraft", "Flowers102", "Food101", "GTSRB", "ImageFolder", "ImageNet", "Imagenette", "KMNIST", "MNIST"),
        *("OxfordIIITPet", "RenderedSST2", "SEMEION", "StanfordCars", "STL10", "SUN397", "SVHN", "USPS"),
    )
    preset: ClassVar[Mapping[str, Any]] = {**ImageFolder.preset, "augment": "crop"}

    @property
    def home(self) -> Path:
        """The folder of its own that torchvision gives the data set, or --data-dir."""
        return self.root / self.kind.__name__ / "raw" if hasattr(self.kind, "raw_folder") else self.root

    @property
    def channels(self) -> int:  # type: ignore[override]
        """1 where all images are grey, else 3."""
        return int(self.info.get("channels", 3))

    def open(self, part: str, arguments: Mapping[str, Any]) -> Any:
        """torchvision's object."""
        if "download" not in inspect.signature(self.kind).parameters:
            return self.kind(root=str(self.root), **arguments)
        try:
            return self.kind(root=str(self.root), download=False, **arguments)
        except (RuntimeError, OSError):
            if not self.may_download:
                raise
        log.info("%s: found no %s; torchvision fetches it", self.home, self.config.dataset)
        with self.downloading():
            return self.kind(root=str(self.root), download=True, **arguments)

    def describe(self, data: Any) -> dict[str, Any]:
        """The channels: files may hold images of any kind, arrays do not."""
        return {"channels": 1 if not paths_of(data) and data[0][0].mode == "L" else 3}

    def common_stamp(self, data: Any) -> str:
        """Of the pixels, which the class holds in memory, or of the labels."""
        content = np.ascontiguousarray(getattr(data, "data", self.labels(data)))
        return hashlib.blake2b(content.tobytes(), digest_size=16).hexdigest()

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return np.asarray(self.item(sample).convert("L" if self.channels == 1 else "RGB"))
