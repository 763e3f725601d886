"""N-MNIST: handwritten digits recorded by an event camera performing three saccades (Orchard et al. 2015)."""

from lsgcli.data.datasets.base import EventDataset, Listing
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile
from lsgcli.data.folders import scan_folders
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
    preset = {
        **EventDataset.preset,
        "size": 32,
        "resize": "centre",
        "epochs": 40,
        "weight_decay": 5e-4,
        "val_fraction": 0.0,
        "augment": "crop,rotate",
    }

    def find(self, splits: tuple[str, ...]) -> Listing:
        folder = self.obtain(splits)
        classes, samples = scan_folders(folder, {split: self.archives[split].content for split in splits}, (".bin",))
        return Listing(classes, samples, {"sensor": [34, 34]})
