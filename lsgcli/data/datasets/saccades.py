"""N-MNIST and N-Caltech101: images recorded by an event camera performing three saccades (Orchard et al. 2015)."""

from lsgcli.data.datasets.base import SPLITS, EventDataset, Listing, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.folders import scan_classes, scan_folders
from lsgcli.registry import register

PAGE = "https://data.mendeley.com/datasets/468j46mzdv"
FILES = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"


@register("dataset", "n-mnist")
class NMnist(Downloaded, EventDataset):
    """``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in data/NMNIST, as in tonic, or directly in --data-dir."""

    title = "N-MNIST, 60,000 + 10,000 recordings of digits, 10 classes; downloaded if missing."
    folder = "NMNIST"
    archives = {
        split: RemoteFile(f"{split}.zip", (f"{FILES}{key}/file_downloaded",), md5, size, PAGE, content=split.title())
        for split, key, md5, size in (
            ("train", "39c25547-014b-4137-a934-9d29fa53c7a0", "20959b8e626244a1b502305a9e6e2031", 1_010_000_000),
            ("test", "05a4d654-7e03-4c15-bdfa-9bb2bcbea494", "69ca8762b2fe404d9b9bad1103e97832", 170_000_000),
        )
    }
    published = {"train": 60_000, "test": 10_000}
    class_names = tuple("0123456789")
    sensor_size = (34, 34)
    preset = {
        **EventDataset.preset,
        "size": 32,
        "resize": "centre",
        "epochs": 40,
        "weight_decay": 5e-4,
        "val_fraction": 0.0,
        "augment": "crop,rotate",
    }

    def find(self, splits: Splits) -> Listing:
        folder = self.obtain(splits)
        classes, samples = scan_folders(folder, {split: self.archives[split].content for split in splits}, (".bin",))
        return Listing(classes, samples, {"sensor": [*self.sensor_size]})


# A zip of the zip of recordings. The size is estimated from the number of events.
ARCHIVE = RemoteFile(
    "N-Caltech101-archive.zip",
    ("https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",),
    "66201824eabb0239c7ab992480b50ba3",
    4_000_000_000,
    "https://data.mendeley.com/datasets/cy6cvx3ryv",
    content="Caltech101",
)


@register("dataset", "n-caltech101")
class NCaltech101(Downloaded, EventDataset):
    """``Caltech101/<class>/*.bin`` in data/NCALTECH101, as in tonic, or directly in --data-dir; or class folders in --data-dir.

    There is no published test split; --split defines it.
    """

    title = "N-Caltech101, 8709 recordings of objects, 101 classes; downloaded if missing."
    folder = "NCALTECH101"
    archives = {"all": ARCHIVE}
    rules = ("stratified", "lexicographic")
    published = {"all": 8709}
    class_names = tuple(map(str, range(101)))
    sensor_size = (240, 180)  # most recordings cover only a part of it
    preset = EventDataset.preset | {"width_multiplier": 0.5, "epochs": 60, "augment": "flip,roll", "split": "stratified"}

    def find(self, splits: Splits) -> Listing:
        if self.config.data_dir is not None and not self.parts_in(self.home) and any(self.root.glob("*/*.bin")):
            folder = self.root
        else:
            folder = self.obtain(SPLITS) / ARCHIVE.content
        rule = self.config.split_rule or "stratified"
        classes, samples = scan_classes(folder, splits, (".bin",), rule, self.config.split_seed)
        return Listing(classes, samples, {"sensor": [*self.sensor_size], "split": rule})
