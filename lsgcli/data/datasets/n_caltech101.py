"""N-Caltech101: images of Caltech101, recorded by an event camera performing three saccades (Orchard et al. 2015)."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.data.datasets.base import SPLITS, EventDataset, Listing
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, unpack
from lsgcli.data.folders import scan_classes
from lsgcli.registry import register

SENSOR = [240, 180]  # width and height; most recordings cover only a part of it
FOLDER = "Caltech101"
INNER = f"{FOLDER}.zip"
ARCHIVE = RemoteFile(
    "N-Caltech101-archive.zip",
    ("https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",),
    md5="66201824eabb0239c7ab992480b50ba3",
    about=4_000_000_000,  # estimated from the number of events
    page="https://data.mendeley.com/datasets/cy6cvx3ryv",
)


@register("dataset", "n-caltech101")
class NCaltech101(Downloaded, EventDataset):
    """``Caltech101/<class>/*.bin`` in data/NCALTECH101, as in tonic, or directly in --data-dir; or class folders in --data-dir.

    There is no published test split; --split defines it.
    """

    folder = "NCALTECH101"
    archives: ClassVar = {"all": ARCHIVE}
    unpacked: ClassVar = {"all": FOLDER}
    title = "N-Caltech101, 8709 recordings of objects, 101 classes; downloaded if missing."
    rules = ("stratified", "lexicographic")
    published: ClassVar[Mapping[str, int]] = {"all": 8709}
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 10,
        "size": 48,
        "width_multiplier": 0.5,
        "epochs": 60,
        "batch_size": 16,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "loss": "tet",
        "augment": "flip,roll",
        "split": "stratified",
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        rule = self.config.split or "stratified"
        classes, samples = scan_classes(self._folder(), splits, (".bin",), rule, self.config.split_seed)
        return Listing(classes, samples, {"sensor": SENSOR, "split": rule})

    def _folder(self) -> Path:
        if self.config.data_dir is not None and not self.there(self.home) and any(self.root.glob("*/*.bin")):
            return self.root
        return self.obtain(SPLITS) / FOLDER

    def unpack(self, archive: Path, folder: Path, name: str) -> list[Path]:
        """Extract the archive, or the zip inside it, which contains the recordings as published."""
        outer = folder / f".{archive.stem}"
        try:
            found = unpack(archive, outer, self.telling(f"unpacking {archive.name}"), inside=name)
            inner = next((path for path in found if path.name == INNER), None)
            if inner is not None:
                return super().unpack(inner, folder, name)
            outer.rename(folder / name)
            return [folder / name / path.relative_to(outer) for path in found]
        finally:
            shutil.rmtree(outer, ignore_errors=True)
