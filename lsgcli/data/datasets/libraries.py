"""Data sets of tonic and torchvision, read through the classes of these libraries: ``--dataset tonic:DVSLip``.

Open it to add one, which is a row of the table ``sets``. The library finds, downloads and decodes the samples; frames, cache, splits and
augmentations are those of lsg. Its transforms are not used.
"""

import contextlib
import functools
import hashlib
import importlib
import inspect
import io
import os
import socket
from abc import abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lsgcli import registry
from lsgcli.data import hdf5
from lsgcli.data.datasets.base import SPLITS, Dataset, EventDataset, ImageDataset, Listing, Sample, Splits, dataset_of
from lsgcli.data.datasets.downloaded import LOCK
from lsgcli.data.datasets.published import Shd
from lsgcli.data.download import TIMEOUT
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp
from lsgcli.data.guard import foreign
from lsgcli.data.images import read_image
from lsgcli.data.readers import base as readers
from lsgcli.data.splits import assign
from lsgcli.errors import ConfigError, DataError, MissingPart, log
from lsgcli.registry import register
from lsgcli.system.files import locked, making_folder, walk
from lsgcli.system.schema import Record

T = TypeVar("T")
DAMAGED = "Download it again, or remove it from the folder."


class Row(NamedTuple):
    """A data set in the table of a library; a dash stands for what its class does not have.

    Attributes:
        name: name of the library's class.
        parts: what selects a part: the argument ``train``, or the argument ``split`` with these values for training and test; a dash: nothing,
            so ``--split`` defines them.
        labels: attribute with the labels, or with pairs of which they are the second; a dash: only the samples have them.
        files: attribute with the files, or with pairs of which they are the first; a dash: a file contains several samples.
        size: of recordings whose events have no y, pixels of the line that are used.
    """

    name: str
    parts: str
    labels: str
    files: str
    size: str = ""


class LibraryDataset(Dataset):
    """A data set that is an object of a library: ``self.library_object(part)[i]`` is a pair (sample, label).

    Attributes:
        library: its name.
        sets: a :class:`Row` in each line, of the classes whose samples have one label each; a version of the library may lack some.
        kind: the class; None in the entry of the registry, which stands for all of them.
        row: its row.
    """

    downloads = True
    library: str
    sets = ""
    kind: Any = None
    row: Row

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._objects: Record = {}

    def __reduce__(self) -> Any:
        """Worker processes find the class by its name, and open the library's objects, which may hold open files, themselves."""
        return dataset_of, (self.config,), {**self.__getstate__(), "_objects": {}, "may_download": False}

    @classmethod
    def rows(cls) -> dict[str, Row]:
        """The rows of ``sets`` by name."""
        rows = [Row(*line.split()) for line in cls.sets.strip().splitlines()]
        return {row.name: row for row in rows}

    @classmethod
    @functools.cache
    def of(cls, name: str) -> type["LibraryDataset"]:
        """The data set that the library calls ``name``.

        Raises:
            ConfigError: the library has no labelled data set of that name.
        """
        module = importlib.import_module(f"{cls.library}.datasets")
        available = {known: row for known, row in cls.rows().items() if hasattr(module, known)}
        if name not in available:
            problem = registry.unknown(f"classification set of {cls.library}", name, list(available))
            raise ConfigError(f"--dataset: {problem}")
        row = available[name]
        kind = getattr(module, name)
        attributes = {"kind": kind, "row": row, "__doc__": cls.__doc__, **cls.attributes_of(kind, row)}
        if row.parts == "-":
            attributes["rules"] = ("stratified",)
            attributes["preset"] = {**attributes.get("preset", cls.preset), "split": "stratified"}
        return type(name, (cls,), attributes)

    @classmethod
    def attributes_of(cls, kind: Any, row: Row) -> Record:
        """Attributes of the data set that follow from the library's class and its row."""
        return {}

    def arguments(self, part: str) -> Record:
        """The arguments of the library's class that select a part."""
        if self.rules:
            return {}
        if self.row.parts == "train":
            return {"train": part == "train"}
        values = dict(zip(SPLITS, self.row.parts.split("/"), strict=True))
        return {"split": values[part]}

    def library_object(self, part: str) -> Any:
        """The library's object of a part, or of all samples (an empty string).

        Raises:
            DataError: the data are missing and cannot be downloaded, or they are damaged.
        """
        if part not in self._objects:
            expected = f"the files of {self.library}'s {self.row.name}"
            with foreign(self.home, expected, hint=self.advice), contextlib.redirect_stdout(io.StringIO()):
                self._check_files()
                self._objects[part] = self._open_or_download(part)
        return self._objects[part]

    def _check_files(self) -> None:
        """Check that the folder contains no pipes or devices, which the library would wait for, and no HDF5 files that lead to others.

        Raises:
            DataError: it contains one.
        """
        for path in self._all_files():
            if not path.is_file():
                stamp(path)
            elif path.match("*.h*5"):
                with foreign(path, "an HDF5 file", hint=DAMAGED, extra="shd"):
                    hdf5.opened(path).close()

    def _all_files(self, folder: str = "") -> list[Path]:
        """The paths below the folder of the data, or one in it, that are not folders, sorted."""
        return sorted(at / name for at, _, names in walk(self.home / folder) for name in names)

    def _open_or_download(self, part: str) -> Any:
        try:
            return self.open(part, download=False)
        except MissingPart:
            if not self.may_download:
                raise
        log.info("%s: found no %s; %s downloads it", self.home, self.config.dataset, self.library)
        before = socket.getdefaulttimeout()
        waiting = f"{self.home}: waiting for another process that downloads to it"
        with making_folder(self.home), locked(self.home / LOCK, waiting):
            # Both libraries wait forever for a silent server, and take no timeout but the default.
            socket.setdefaulttimeout(TIMEOUT)
            try:
                return self.open(part, download=True)
            finally:
                socket.setdefaulttimeout(before)

    @abstractmethod
    def open(self, part: str, *, download: bool) -> Any:
        """The library's object. Raises anything, and :meth:`missing` if files are missing and ``download`` is false."""

    def missing(self, part: str) -> MissingPart:
        """The error of a part that is missing."""
        return MissingPart(f"{self.home}: found no {self.config.dataset}", part=part, hint=self.advice)

    @abstractmethod
    def describe(self, data: Any) -> Record:
        """``info`` of the library's object."""

    @abstractmethod
    def common_stamp(self, data: Any) -> bytes:
        """Bytes that change with the samples, for data sets with several samples in a file."""

    @property
    def advice(self) -> str:
        """What to do if data are missing."""
        files = f"the files of {self.library}'s {self.row.name}"
        return f"Put {files} in {self.home}, and run the same command again, or try {self.download_command}."

    def find(self, splits: Splits) -> Listing:
        samples = []
        for part in ("",) if self.rules else splits:
            samples += self._listed(part)
        first = self.library_object(samples[0].split)
        classes = _classes(first, max(sample.label for sample in samples))
        for sample in samples:
            if not 0 <= sample.label < len(classes):
                raise DataError(f"{sample.key}: found label {sample.label}, expected 0 to {len(classes) - 1}", DAMAGED)
        info = self.describe(first)
        if self.rules:
            info["split"] = self.rule
            samples = [sample for sample in assign(samples, self.rule, self.config.split_seed) if sample.split in splits]
        return Listing(classes, tuple(samples), info)

    def _listed(self, part: str) -> list[Sample]:
        """The samples of a part, sorted by key: a path below ``--data-dir``, or a number if samples are not in a file each."""
        data = self.library_object(part)
        if not len(data):
            raise DataError(f"{self.home}: found no samples, expected some", self.advice)
        edition = f"{self.library} {version(self.library)}"
        paths = self.files(data)
        common = "" if paths else hashlib.blake2b(self.common_stamp(data), digest_size=16).hexdigest()
        samples = []
        for i, label in zip(range(len(data)), self.labels(data), strict=True):
            name = f"{i:06d}"
            changed = common
            path = paths[i] if paths else ""
            if path:
                name = Path(os.path.relpath(path, self.root)).as_posix()
                changed = stamp(path)
            samples.append(Sample(f"{part}/{name}".lstrip("/"), int(label), part, (part, i, path), f"{edition}:{changed}"))
        return sorted(samples, key=lambda sample: sample.key)

    def files(self, data: Any) -> list[str]:
        """The file of each sample; empty if several samples are in a file."""
        return [str(file) for file in _column(data, self.row.files, 0)]

    def labels(self, data: Any) -> Any:
        """(N,) labels, without loading the samples if the class has a list of them."""
        if self.row.labels == "-":
            return [data[i][1] for i in range(len(data))]
        return _column(data, self.row.labels, 1)

    def item(self, sample: Sample, convert: Callable[[Any], T]) -> T:
        """The library's sample, converted; any failure is a DataError."""
        part, index, _ = sample.source
        expected = f"a sample that {self.library} can read"
        with foreign(f"{self.config.dataset}: {sample.key}", expected, hint=DAMAGED, extra="aedat4"):
            return convert(self.library_object(part)[index][0])


def _column(data: Any, attribute: str, index: int) -> list[Any]:
    """The values of an attribute of a library's object, of pairs those at ``index``; empty for a dash."""
    values = () if attribute == "-" else getattr(data, attribute)
    return [value[index] if isinstance(value, tuple) else value for value in values]


def _classes(data: Any, largest: int) -> tuple[str, ...]:
    """Names in label order; numbers if the library has none."""
    names = []
    for one in getattr(data, "class_map", getattr(data, "classes", range(largest + 1))):
        if isinstance(one, bytes):
            one = one.decode()
        names.append(", ".join(one) if isinstance(one, tuple) else str(one))
    return tuple(name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names))


@register("dataset", "tonic:NAME")
class Tonic(LibraryDataset, EventDataset):
    """The files of tonic's class NAME, in data/NAME, where tonic has them."""

    title = "Any classification set of tonic, such as tonic:DVSLip or tonic:SSC; downloaded by tonic if absent."
    library = "tonic"
    sets = """
        ASLDVS         -              targets     data
        CIFAR10DVS     -              targets     data
        DVSGesture     train          targets     data
        DVSLip         train          targets     data
        NCARS          train          targets     data
        NMNIST         train          targets     data
        NTIDIGITS18    train          -           -             64
        POKERDVS       train          targets     -
        SHD            train          hdf5        -             140
        SMNIST         train          label_data  -             140
        SSC            train/test     hdf5        -             140
        STMNIST        -              targets     data
    """

    @classmethod
    def attributes_of(cls, kind: Any, row: Row) -> Record:
        """The classes. A sensor whose events have no y is a line, and its events all have one polarity."""
        attributes = {"class_names": tuple(map(str, getattr(kind, "classes", ())))}
        if not row.size:
            return attributes
        return {**attributes, "line": True, "channels": 1, "preset": Shd.preset | {"slicing": "time", "size": int(row.size)}}

    @property
    def home(self) -> Path:
        """The folder that tonic reads."""
        return self.root / ("smnist" if self.row.name == "SMNIST" else self.row.name)

    def open(self, part: str, *, download: bool) -> Any:
        arguments = self.arguments(part)
        if self.row.name == "NTIDIGITS18":
            arguments["single_digits"] = True
        archive = "files"

        def check_exists(found: Any) -> bool:
            """Whether the files exist. tonic calls this before each download, so that it can be refused here."""
            nonlocal archive
            archive = getattr(found, "filename", archive)
            there: bool = self.kind._check_exists(found) or self._is_unpacked(found)
            if not (there or download):
                raise self.missing(part)
            return there

        # The name stays: tonic looks for a folder of the name of the class.
        kind: Any = type(self.row.name, (self.kind,), {"_check_exists": check_exists})
        try:
            found = kind(save_to=str(self.root), **arguments)
        except (Exception, SystemExit) as error:
            if not download:
                raise
            problem = error if isinstance(error, Exception) else "tonic cannot download it"
            address = getattr(kind, "url", getattr(kind, "base_url", "an address known to tonic"))
            raise RuntimeError(f"{problem}: {archive} from {address}") from error
        if self.files(found):  # in the order of the system's listing, which may differ between processes
            pairs = sorted(zip(found.data, found.targets, strict=True), key=lambda pair: str(pair[0]))
            found.data, found.targets = map(list, zip(*pairs, strict=True))
        return found

    def _is_unpacked(self, found: Any) -> bool:
        """Whether there are files without their archive, which tonic's check requires; an archive may be an unfinished download."""
        archive = getattr(found, "filename", None)
        file = getattr(found, "data_filename", None)
        if archive is None or (self.home / archive).exists():
            return False
        if isinstance(file, str):
            return (self.home / file).is_file()
        return any(path.is_file() and not path.name.startswith(".") for path in self._all_files(found.folder_name))

    def describe(self, data: Any) -> Record:
        return {"sensor": list(map(int, data.sensor_size[:2]))}

    def labels(self, data: Any) -> Any:
        if self.row.labels != "hdf5":
            return super().labels(data)
        with hdf5.opened(self.home / data.data_filename) as content:
            return content["labels"][()].astype(np.int64)

    def common_stamp(self, data: Any) -> bytes:
        return "\n".join(stamp(path) for path in self._all_files() if path.is_file()).encode()

    def events(self, sample: Sample) -> Events:
        return self.item(sample, self._checked)

    def _checked(self, events: Any) -> Events:
        x, t, p = (np.ravel(events[name]) for name in ("x", "t", "p"))
        y = np.zeros(len(x), np.uint16) if self.line else np.ravel(events["y"])
        return readers.checked(Events(x, y, t, p), self.sensor)


@register("dataset", "torchvision:NAME")
class Torchvision(LibraryDataset, ImageDataset):
    """The files of torchvision's class NAME, where torchvision has them below data/."""

    title = "Any classification set of torchvision, such as torchvision:SVHN; downloaded by torchvision if absent."
    library = "torchvision"
    sets = """
        CIFAR10        train          targets     -
        CIFAR100       train          targets     -
        Country211     train/test     samples     samples
        DTD            train/test     _labels     _image_files
        EuroSAT        -              samples     samples
        FashionMNIST   train          targets     -
        FER2013        train/test     _samples    -
        FGVCAircraft   train/test     _labels     _image_files
        Flowers102     train/test     _labels     _image_files
        Food101        train/test     _labels     _image_files
        GTSRB          train/test     _samples    _samples
        ImageFolder    -              samples     samples
        ImageNet       train/val      samples     samples
        Imagenette     train/val      _samples    _samples
        KMNIST         train          targets     -
        MNIST          train          targets     -
        OxfordIIITPet  trainval/test  _labels     _images
        RenderedSST2   train/test     _samples    _samples
        SEMEION        -              labels      -
        StanfordCars   train/test     _samples    _samples
        STL10          train/test     labels      -
        SUN397         -              _labels     _image_files
        SVHN           train/test     labels      -
        USPS           train          targets     -
    """
    preset = ImageDataset.preset | {"augment": "crop"}

    @property
    def home(self) -> Path:
        """The folder of its own that torchvision gives the data set, or --data-dir."""
        return self.root / self.row.name / "raw" if hasattr(self.kind, "raw_folder") else self.root

    @property
    def channels(self) -> int:  # type: ignore[override]
        """1 if all images are grey, otherwise 3."""
        return int(self.info.get("channels", 3))

    def open(self, part: str, *, download: bool) -> Any:
        arguments = self.arguments(part)
        if "download" in inspect.signature(self.kind).parameters:
            arguments["download"] = download
        try:
            return self.kind(root=str(self.root), **arguments)
        except (RuntimeError, OSError) as error:
            if arguments.get("download") is not False:
                raise
            raise self.missing(part) from error

    def describe(self, data: Any) -> Record:
        """The channels: files may contain images of any kind, arrays do not."""
        return {"channels": 1 if self.row.files == "-" and data[0][0].mode == "L" else 3}

    def common_stamp(self, data: Any) -> bytes:
        """The pixels, which the class has in memory, or the labels."""
        return np.ascontiguousarray(getattr(data, "data", self.labels(data))).tobytes()

    def pixels(self, sample: Sample) -> np.ndarray:
        """The image; files are opened here, as torchvision would open those of any format."""
        mode = "L" if self.channels == 1 else "RGB"
        path = sample.source[-1]
        return read_image(Path(path), mode) if path else self.item(sample, lambda image: np.asarray(image.convert(mode)))
