"""N-Caltech101: images of Caltech101, recorded by an event camera performing three saccades (Orchard et al. 2015)."""

from lsgcli.data.datasets.base import SPLITS, EventDataset, Listing
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.folders import scan_classes
from lsgcli.registry import register

PAGE = "https://data.mendeley.com/datasets/cy6cvx3ryv"
FILE = "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded"
# A zip of the zip of recordings. The size is estimated from the number of events.
ARCHIVE = RemoteFile(
    "N-Caltech101-archive.zip", (FILE,), "66201824eabb0239c7ab992480b50ba3", 4_000_000_000, PAGE, content="Caltech101"
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
    preset = EventDataset.preset | {"width_multiplier": 0.5, "epochs": 60, "augment": "flip,roll", "split": "stratified"}

    def find(self, splits: tuple[str, ...]) -> Listing:
        if self.config.data_dir is not None and not self.parts_in(self.home) and any(self.root.glob("*/*.bin")):
            folder = self.root
        else:
            folder = self.obtain(SPLITS) / ARCHIVE.content
        rule = self.config.split_rule or "stratified"
        classes, samples = scan_classes(folder, splits, (".bin",), rule, self.config.split_seed)
        # Width and height; most recordings cover only a part of the sensor.
        return Listing(classes, samples, {"sensor": [240, 180], "split": rule})
