"""The published data sets: open it to add one, which is a row, or to change what a row states.

A row is a class with constants: where the files are and their digests, how many samples and which classes are published, the sensor, the
rules of the split and the preset. Recordings in class folders need no more; other layouts have functions that list and read them.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lsgcli.data import hdf5
from lsgcli.data.datasets.base import SPLITS, EventDataset, ImageDataset, Listing, Sample, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, figshare
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp, visible, walk
from lsgcli.data.guard import Damaged, foreign
from lsgcli.data.readers import base as readers
from lsgcli.data.splits import RULES, divide
from lsgcli.errors import DataError, log
from lsgcli.registry import register
from lsgcli.system.files import check_regular

DIGITS = tuple("0123456789")
MENDELEY = "https://data.mendeley.com/public-files/datasets"

# ---- images recorded by an event camera performing three saccades (Orchard et al. 2015) ----

NMNIST_PAGE = "https://data.mendeley.com/datasets/468j46mzdv"
NMNIST_FILES = f"{MENDELEY}/468j46mzdv/files"


@register("dataset", "n-mnist")
class NMnist(Downloaded, EventDataset):
    """``Train/<digit>/*.bin`` and ``Test/<digit>/*.bin`` in data/NMNIST, as in tonic, or directly in --data-dir."""

    title = "N-MNIST, 60,000 + 10,000 recordings of digits, 10 classes; downloaded if missing."
    folder = "NMNIST"
    archives = {
        "train": RemoteFile(
            "train.zip",
            (f"{NMNIST_FILES}/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
            "20959b8e626244a1b502305a9e6e2031",
            1_010_000_000,
            NMNIST_PAGE,
            "Train",
        ),
        "test": RemoteFile(
            "test.zip",
            (f"{NMNIST_FILES}/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
            "69ca8762b2fe404d9b9bad1103e97832",
            170_000_000,
            NMNIST_PAGE,
            "Test",
        ),
    }
    endings = (".bin",)
    published = {"train": 60_000, "test": 10_000}
    class_names = DIGITS
    sensor_size = (34, 34)
    preset = EventDataset.preset | {
        "size": 32,
        "resize": "centre",
        "epochs": 40,
        "weight_decay": 5e-4,
        "val_fraction": 0.0,
        "augment": "crop,rotate",
    }


@register("dataset", "n-caltech101")
class NCaltech101(Downloaded, EventDataset):
    """``Caltech101/<class>/*.bin`` in data/NCALTECH101, as in tonic, or directly in --data-dir; or class folders in --data-dir.

    There is no published test split; --split defines it.
    """

    title = "N-Caltech101, 8709 recordings of objects, 101 classes; downloaded if missing."
    folder = "NCALTECH101"
    # A zip of the zip of recordings. The size is estimated from the number of events.
    archives = {
        "all": RemoteFile(
            "N-Caltech101-archive.zip",
            (f"{MENDELEY}/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",),
            "66201824eabb0239c7ab992480b50ba3",
            4_000_000_000,
            "https://data.mendeley.com/datasets/cy6cvx3ryv",
            "Caltech101",
        )
    }
    endings = (".bin",)
    rules = ("stratified", "lexicographic")
    published = {"all": 8709}
    class_names = tuple(map(str, range(101)))
    sensor_size = (240, 180)  # most recordings cover only a part of it
    preset = EventDataset.preset | {"width_multiplier": 0.5, "epochs": 60, "augment": "flip,roll", "split": "stratified"}


# ---- DVS128 Gesture (Amir et al. 2017) of 29 people, in tonic's edition: a file per gesture, times rounded to milliseconds ----

GESTURES = (
    "Hand clapping",
    "Right hand wave",
    "Left hand wave",
    "Right arm cw",
    "Right arm ccw",
    "Left arm cw",
    "Left arm ccw",
    "Arm roll",
    "Air drums",
    "Air guitar",
    "Other gestures",
)
GESTURES_PAGE = "https://research.ibm.com/interactive/dvsgesture/"


@register("dataset", "dvs-gesture")
class DvsGesture(Downloaded, EventDataset):
    """``ibmGestureTrain/user*/<label>.npy`` and ``ibmGestureTest/`` in data/DVSGesture, as in tonic, or directly in --data-dir."""

    title = "DVS128 Gesture, 1077 + 264 recordings of gestures, 11 classes; downloaded if missing."
    folder = "DVSGesture"
    archives = {
        "train": RemoteFile(
            "ibmGestureTrain.tar.gz",
            figshare(38022171),
            "3a8f0d4120a166bac7591f77409cb105",
            2_400_000_000,
            GESTURES_PAGE,
            "ibmGestureTrain",
        ),
        "test": RemoteFile(
            "ibmGestureTest.tar.gz",
            figshare(38020584),
            "56070e45dadaa85fff82e0fbfbc06de5",
            700_000_000,
            GESTURES_PAGE,
            "ibmGestureTest",
        ),
    }
    published = {"train": 1077, "test": 264}
    class_names = GESTURES
    sensor_size = (128, 128)
    # No flips, which would turn right hands into left hands.
    preset = EventDataset.preset | {"T": 16, "epochs": 60, "augment": "roll"}

    def find(self, splits: Splits) -> Listing:
        folder = self.obtain(splits)
        samples = []
        for split in splits:
            samples += _gestures(folder / self.archives[split].content, split)
        return Listing(GESTURES, tuple(samples))

    def read(self, path: Path) -> Events:
        """The events of a ``.npy`` of this edition, or of a recording in another format."""
        if path.suffix.lower() != ".npy":
            return super().read(path)
        with foreign(path, "a numpy array (N, 4) of x, y, polarity and milliseconds"):
            check_regular(path)
            # Memory-mapped, so that a header with a wrong size is detected before memory is allocated.
            x, y, p, t = np.lib.format.open_memmap(path, mode="r").T
            return readers.checked(Events(x, y, np.rint(t * 1000.0), p), self.sensor, "npy")


def _gestures(folder: Path, split: str) -> list[Sample]:
    """The recordings of one part: ``user<number>_<lighting>/<label>.npy``."""
    labels = {f"{label}.npy": label for label in range(len(GESTURES))}
    samples = []
    for user in [user for user in visible(folder) if user.is_dir()]:
        for entry in visible(Path(user.path)):
            if not entry.name.endswith(".npy"):
                continue
            if entry.name not in labels:
                expected = f"0.npy to {len(labels) - 1}.npy"
                raise DataError(
                    f"{entry.path}: found a name that is not a label, expected {expected}", "Remove it from the folder."
                )
            key = f"{split}/{user.name}/{entry.name}"
            samples.append(Sample(key, labels[entry.name], split, entry.path, stamp(entry)))
    if not samples:
        raise DataError(f"{folder}: found no user*/<label>.npy, expected recordings", "Extract its archive again.")
    return samples


# ---- CIFAR10-DVS (Li et al. 2017), in both releases: the original in AEDAT 2.0, and tonic's copy in AEDAT 4 ----

CIFAR_DVS_NAME = re.compile(r"cifar10_([a-z]+)_(\d+)\.(aedat4?)")
# Suffix -> description of the release, stored in checkpoints. The original is rotated in the sensor's coordinates.
RELEASES = {
    "aedat": {"release": "original, AEDAT 2.0", "orientation": "row = 127 - x, column = 127 - y of the sensor"},
    "aedat4": {"release": "tonic, AEDAT 4", "orientation": "as stored"},
}
CIFAR_DVS_PAGE = "https://doi.org/10.6084/m9.figshare.4724671"
# Class -> archive of its 1000 recordings, 7.8 GB in total.
CIFAR_DVS_FILES = {
    name: RemoteFile(f"{name}.zip", figshare(number), md5, 780_000_000, CIFAR_DVS_PAGE, name)
    for name, number, md5 in (
        ("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
        ("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
        ("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
        ("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
        ("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
        ("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
        ("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
        ("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
        ("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
        ("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
    )
}
CIFAR_CLASSES = tuple(CIFAR_DVS_FILES)
Found = dict[str, dict[tuple[str, int], Path]]  # suffix -> (class, number) -> path


@register("dataset", "cifar-dvs")
class CifarDvs(Downloaded, EventDataset):
    """``cifar10_<class>_<number>.aedat`` or ``.aedat4``, anywhere below data/CIFAR10DVS or --data-dir; the number determines the split."""

    title = "CIFAR10-DVS, 10,000 recordings of 10 classes, either release; the original is downloaded if missing."
    folder = "CIFAR10DVS"
    archives = CIFAR_DVS_FILES
    rules = tuple(RULES)
    published = {"all": 10_000}
    class_names = CIFAR_CLASSES
    sensor_size = (128, 128)
    preset = EventDataset.preset | {
        "width_multiplier": 1.0,
        "epochs": 100,
        "batch_size": 32,
        "augment": "flip,roll",
        "lr": 0.1,
        "weight_decay": 1e-3,
        "decay_lr": 1e-3,
        "split": "last",
    }

    def find(self, splits: Splits) -> Listing:
        root = self.home if self.config.data_dir is None else self.root
        found = _recordings(root)
        if set(CIFAR_CLASSES) - _classes(found):
            self.obtain(SPLITS)
            found = _recordings(root)
        suffix = next(suffix for suffix, recordings in found.items() if recordings)
        if all(found.values()):
            log.warning("%s: found both releases of CIFAR10-DVS; reading the original (.aedat)", root)
        samples = []
        for (name, number), path in sorted(found[suffix].items()):
            samples.append(Sample(f"{name}/{number}", CIFAR_CLASSES.index(name), "", str(path), stamp(path)))
        parts = divide(root, CIFAR_CLASSES, samples, splits, self.rule, self.config.split_seed)
        return Listing(CIFAR_CLASSES, parts, {"split": self.rule, **RELEASES[suffix]})

    @property
    def home(self) -> Path:
        """The folder of the data: CIFAR10DVS below the root, or the root itself if --data-dir contains them directly."""
        below = self.root / self.folder
        if self.config.data_dir is None or below.is_dir():
            return below
        return self.root if self.parts_in(self.root) or self.has_archive_in(self.root) else below

    def parts_in(self, folder: Path) -> set[str]:
        """The classes with recordings in or below a folder."""
        return _classes(_recordings(folder))

    def upright(self, events: Events, form: str) -> Events:
        """Swap rows and columns of the original release, which is stored rotated."""
        return replace(events, x=events.y, y=events.x) if form == "aedat2" else events


def _recordings(root: Path) -> Found:
    """The recordings in and below ``root``; empty if it does not exist."""
    found: Found = {suffix: {} for suffix in RELEASES}
    ours = {file.name for file in CIFAR_DVS_FILES.values()}
    strange = []
    for path in walk(root) if root.exists() else ():  # hidden folders contain partial extractions
        match = CIFAR_DVS_NAME.fullmatch(path.name)
        if match and match[1] in CIFAR_CLASSES:
            other = found[match[3]].setdefault((match[1], int(match[2])), path)
            if other is not path:
                raise DataError(f"{path}: found this recording twice, also as {other}", "Remove one of the two.")
        elif path.name in ours and path.parent in (root, root / CifarDvs.folder):
            continue  # it is extracted by obtain()
        elif path.suffix.lower() == ".zip" and (path.name in ours or "cifar" in path.name.lower()):
            strange.append(path)
    if strange and not any(found.values()):
        raise DataError(
            f"{strange[0]}: found an archive that is not extracted, expected recordings",
            f"Extract it in {root}, or remove it to download the original release ({CIFAR_DVS_PAGE}).",
        )
    return found


def _classes(found: Found) -> set[str]:
    return {kind for recordings in found.values() for kind, _ in recordings}


# ---- SHD, the Spiking Heidelberg Digits: spoken digits as spikes of an artificial cochlea (Cramer et al., IEEE TNNLS 2020) ----

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun")
SPOKEN = (*ENGLISH, *GERMAN)
SHD_PAGE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"
SHD_FILES = "https://zenkelab.org/datasets"


@register("dataset", "shd")
class Shd(Downloaded, EventDataset):
    """``shd_train.h5`` and ``shd_test.h5`` in data/SHD, as in tonic, or directly in --data-dir."""

    title = "SHD, 8156 + 2264 spoken digits as spikes of 700 channels, 20 classes; downloaded if missing."
    folder = "SHD"
    archives = {
        "train": RemoteFile(
            "shd_train.h5.zip",
            (f"{SHD_FILES}/shd_train.h5.zip",),
            "f3252aeb598ac776c1b526422d90eecb",
            131_000_000,
            SHD_PAGE,
            "shd_train.h5",
        ),
        "test": RemoteFile(
            "shd_test.h5.zip",
            (f"{SHD_FILES}/shd_test.h5.zip",),
            "1503a5064faa34311c398fb0a1ed0a6f",
            38_000_000,
            SHD_PAGE,
            "shd_test.h5",
        ),
    }
    line = True
    channels = 1
    published = {"train": 8156, "test": 2264}
    class_names = SPOKEN
    sensor_size = (700, 1)  # channels of the cochlea
    preset = {
        "arch": "mlp",
        "epochs": 30,
        "batch_size": 64,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "T": 100,
        "size": 140,
        "slicing": "window",
        "window_us": 10_000,
        "resize": "bin",
    }

    def find(self, splits: Splits) -> Listing:
        folder = self.obtain(splits)
        samples = []
        for split in splits:
            path = folder / self.archives[split].content
            version = stamp(path)
            for i, label in enumerate(spoken(path).labels.tolist()):
                samples.append(Sample(f"{split}/{i:05d}", label, split, (str(path), i), f"{i}:{version}"))
        return Listing(SPOKEN, tuple(samples))

    def events(self, sample: Sample) -> Events:
        """The spikes of one recording: x is the channel, y is 0, all are ON."""
        path, index = sample.source
        with foreign(f"{path}: recording {index}", "times in seconds and channels"):
            recordings = spoken(Path(path))
            t = np.asarray(recordings.times[index], np.float64)
            x = np.asarray(recordings.units[index])
            spikes = Events(x, np.zeros(len(x), np.uint16), np.rint(t * 1e6), np.ones(len(x), bool))
            return readers.checked(spikes, self.sensor)


class Spoken(NamedTuple):
    """Content of a file: times (seconds) and units of all recordings, read when indexed; labels (N,)."""

    times: Any
    units: Any
    labels: np.ndarray


@lru_cache(maxsize=4)
def spoken(path: Path) -> Spoken:
    """The content of a file of SHD.

    Raises:
        DataError: it is damaged, or another file.
    """
    with foreign(path, "an HDF5 file with spikes/times, spikes/units and labels", hint="Download it again.", extra="shd"):
        content = hdf5.opened(path)
        times = content["spikes/times"]
        units = content["spikes/units"]
        labels = np.asarray(content["labels"], np.int64)
        if not len(times) == len(units) == len(labels):
            raise ValueError(f"{len(times)} times, {len(units)} units, {len(labels)} labels")
        names = [name.decode().lower().replace("ü", "ue") for name in content.get("extra/keys", ())]
        if names and tuple(names) != SPOKEN:
            raise ValueError(f"extra/keys {', '.join(names)}, not the classes of SHD")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(SPOKEN):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}, not 0 to {len(SPOKEN) - 1}")
    return Spoken(times, units, labels)


# ---- CIFAR-10 and CIFAR-100 (Krizhevsky 2009), through torchvision ----

FINE_LABELS = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
"""
CIFAR_SITE = "https://www.cs.toronto.edu/~kriz"
CIFAR_PAGE = f"{CIFAR_SITE}/cifar.html"


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
        self._images: Mapping[str, Any] = {split: self._open(split) for split in splits}
        samples = []
        for split, images in self._images.items():
            for i, label in enumerate(images.targets):
                samples.append(Sample(f"{split}/{i:05d}", label, split, i, images.tgz_md5))
        return Listing(tuple(self._images[splits[0]].classes), tuple(samples))

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
        return np.asarray(self._images[sample.split].data[sample.source])


@register("dataset", "cifar10")
class Cifar10(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 10 classes."""

    title = "CIFAR-10, 50,000 + 10,000 images, 10 classes; downloaded if missing."
    source = "CIFAR10"
    class_names = CIFAR_CLASSES
    folder = "cifar-10-batches-py"
    archives = {
        "all": RemoteFile(
            "cifar-10-python.tar.gz",
            (f"{CIFAR_SITE}/cifar-10-python.tar.gz",),
            "c58f30108f718f92721af3b95e74349a",
            170_498_071,
            CIFAR_PAGE,
            "cifar-10-batches-py",
        )
    }
    normalisation = ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784))


@register("dataset", "cifar100")
class Cifar100(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 100 classes (the fine labels)."""

    title = "CIFAR-100, 50,000 + 10,000 images, 100 classes; downloaded if missing."
    source = "CIFAR100"
    class_names = tuple(FINE_LABELS.split())
    folder = "cifar-100-python"
    archives = {
        "all": RemoteFile(
            "cifar-100-python.tar.gz",
            (f"{CIFAR_SITE}/cifar-100-python.tar.gz",),
            "eb9058c3a382ffc7106e4002c42a8d85",
            169_001_437,
            CIFAR_PAGE,
            "cifar-100-python",
        )
    }
    normalisation = ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047))
