"""Base classes of data sets, which list samples and convert them to arrays for a network."""

import hashlib
import os
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from os.path import splitext
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from lsgcli import registry
from lsgcli.config.data import DataConfig
from lsgcli.config.fields import Values
from lsgcli.config.machine import MachineConfig
from lsgcli.data import random
from lsgcli.data.bundle import Channels
from lsgcli.data.events import Events, Sensor, turned, turned_sensor
from lsgcli.data.frames import VERSION as FRAMES_VERSION
from lsgcli.data.frames import dtype_of, frame_shape, frames, preparation
from lsgcli.data.images import read_image
from lsgcli.data.parallel import NamedProgress, silent
from lsgcli.data.readers import base as readers
from lsgcli.errors import ConfigError, DataError
from lsgcli.system.schema import Record

SPLITS = ("train", "test")
Splits = tuple[str, ...]  # some of them
IMAGES_VERSION = 2  # increase it when the preparation of images changes


class Sample(NamedTuple):
    """One recording or image.

    Attributes:
        key: stable name such as ``train/cat/0001.png``, which seeds order and augmentation; it must not depend on the machine, the
            folder of the data, or the listing order of the file system.
        label: index into the data set's classes.
        split: ``train`` or ``test``.
        source: location for ``Dataset.load``: a path or a number.
        stamp: size and times of the source, or a version; a change invalidates prepared data.
    """

    key: str
    label: int
    split: str
    source: Any
    stamp: str = ""


def digests(samples: Iterable[Sample]) -> dict[str, str]:
    """Digests (BLAKE2b, 128 bits) of the keys of samples and the ``sizes`` of their files, which copies share, or their ``stamps``."""
    sizes = hashlib.blake2b(digest_size=16)
    stamps = hashlib.blake2b(digest_size=16)
    for sample in samples:
        size = sample.stamp.rsplit(":", 2)[0]
        sizes.update(f"{sample.key}\0{size}\n".encode("utf-8", "surrogateescape"))
        stamps.update(f"{sample.key}\0{sample.stamp}\n".encode("utf-8", "surrogateescape"))
    return {"sizes": sizes.hexdigest(), "stamps": stamps.hexdigest()}


class Listing(NamedTuple):
    """The samples of a data set.

    Attributes:
        classes: class names, in label order.
        samples: samples, in a fixed order.
        info: facts to store in checkpoints (sensor, release, orientation, ...), as JSON types.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    info: Values = {}


class Dataset(ABC):
    """Base class of data sets. Subclasses are registered, in modules of ``lsgcli.data.datasets``.

    After :meth:`scan`, a data set has ``classes``, ``samples`` and ``info``, as in :class:`Listing`. Before, ``info`` is ``expected``.

    Args:
        config: settings of the data; those of a run also state the number of workers, and the directory of prepared data.
        expected: ``info`` of the training data of a checkpoint.
        may_download: whether missing data are downloaded, if a download exists.
        progress: called with file name, bytes done and total bytes during download and extraction.

    Attributes:
        preset: default settings for this data set; keys are fields of RunConfig. Subclasses extend those of their base class.
        title: one line for help pages and documentation.
        static: images rather than recordings.
        embedded: the data are part of lsg; there is no folder.
        channels: C of images (C, S, S), or of frames: 2 (ON, OFF), or 1 for events without polarity.
        line: frames with a single row, 1 x S, which not all networks support.
        rules: supported values of ``--split``; empty if the test split is published or given by folders.
        published: published number of samples per part, or in total (``all``).
        class_names: published names of the classes, in label order, or numbers; empty if only the data state them.
        sensor_size: published width and height of the sensor in pixels; None for images, and if only the data state it.
        downloads: whether it can be downloaded.
        takes_sensor: whether it supports ``--sensor``.
        normalisation: published mean and standard deviation per channel, on the 0..1 scale; None to measure them on the training
            images, or for recordings, which are not normalised.
        cached: whether prepared samples are cached; False if loading is as fast as reading the cache.
        version: version of this class; increase it when its samples change.
    """

    preset: Record = {}
    title = ""
    static = False
    embedded = False
    channels: int = 2
    line = False
    rules: tuple[str, ...] = ()
    published: Mapping[str, int] = {}
    class_names: tuple[str, ...] = ()
    sensor_size: Sensor | None = None
    downloads = False
    takes_sensor = False
    normalisation: tuple[Channels, Channels] | None = None
    cached = True
    version = 1

    def __init__(
        self,
        config: DataConfig,
        *,
        expected: Values | None = None,
        may_download: bool = True,
        progress: NamedProgress = silent,
    ):
        self.config = config
        self.expected = expected or {}
        self.may_download = may_download
        self.progress = progress
        self.machine = config if isinstance(config, MachineConfig) else MachineConfig()
        self.classes, self.samples, self.info = Listing((), (), self.expected)

    def __getstate__(self) -> Record:
        """State for worker processes, which receive individual samples and do not download."""
        return {**self.__dict__, "progress": silent, "samples": ()}

    def scan(self, splits: Splits = SPLITS) -> Self:
        """List the samples of the given splits, after downloading missing data if possible; returns the data set itself.

        Raises:
            DataError: the data are missing, or have an unexpected layout.
        """
        self.classes, self.samples, found = self.find(splits)
        self.info = {**self.stated, **found}
        return self

    @abstractmethod
    def find(self, splits: Splits) -> Listing:
        """The samples of the given splits: see :meth:`scan`."""

    @property
    def stated(self) -> Values:
        """The part of ``info`` that is known before :meth:`scan`: the published sensor."""
        return {"sensor": [*self.sensor_size]} if self.sensor_size else {}

    @property
    def rule(self) -> str:
        """What defines the test part: ``fold``, ``split``, or the preset's; empty if it is published."""
        return self.config.split_rule or str(self.preset.get("split", ""))

    def part(self, split: str) -> tuple[Sample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def check(self) -> None:
        """Check the settings before reading any data.

        Raises:
            ConfigError: the data set does not support the given ``--split`` or ``--fold``, or ``--cache-dir`` is in one of :attr:`class_folders`.
            DataError: ``--data-dir`` is a file.
        """
        if self.machine.cache_dir:
            self.check_outside("--cache-dir", self.machine.cache_dir)
        split = self.config.split
        fold = self.config.fold
        wrong = split not in (None, *self.rules) if fold is None else not self.rules
        if wrong:
            option, value = ("--split", split) if fold is None else ("--fold", fold)
            expected = ", ".join(self.rules) or "none, because its test split is fixed"
            raise ConfigError(
                f"{option}: found {value!r} for the data set {self.config.dataset}, expected {expected}",
                f"Omit {option}, or choose another value or data set.",
            )
        if self.root.exists() and not self.root.is_dir() and (self.downloads or self.config.data_dir is not None):
            raise DataError(
                f"{self.root}: found a file, expected the folder of the data set {self.config.dataset}",
                "Give --data-dir a folder.",
            )

    @property
    def root(self) -> Path:
        """``data_folder`` of the settings."""
        return self.config.data_folder

    @property
    def home(self) -> Path:
        """The folder that contains the data: :attr:`root`, or a folder below it."""
        return self.root

    @property
    def download_command(self) -> str:
        """The command that downloads the data to :attr:`root`."""
        words = ["lsg", "data", "prepare", "--dataset", self.config.dataset, "--data-dir", str(self.root)]
        return f"`{shlex.join(words)}`"

    def deviations(self, splits: Splits) -> list[str]:
        """A line for each part whose number of samples differs from the published one. Call it after :meth:`scan` of these parts."""
        counts = Counter(sample.split for sample in self.samples)
        counts["all"] = counts.total()
        lines = []
        for part, number in self.published.items():
            complete = part in splits or len(splits) == len(SPLITS)
            if complete and counts[part] != number:
                where = "in total" if part == "all" else f"in the {part} part"
                lines.append(f"found {counts[part]:,} samples {where}, expected {number:,} as published")
        return lines

    @property
    def class_folders(self) -> tuple[Path, ...]:
        """The folders whose subfolders are the classes; empty for data sets in another layout."""
        return ()

    def check_outside(self, option: str, path: Path | str) -> None:
        """Check that a path to be written is not in one of :attr:`class_folders`.

        Raises:
            ConfigError: it is.
        """
        for folder in self.class_folders:
            if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                raise ConfigError(
                    f"{path}: is inside the folder of the data {folder}, where it would be read as a class",
                    f"Choose another {option}.",
                )

    @abstractmethod
    def load(self, sample: Sample) -> np.ndarray:
        """One prepared sample: frames (T, C, S, S), uint8 or float16, or an image (C, S, S), uint8.

        Raises:
            DataError: the file of the sample is damaged.
        """

    @abstractmethod
    def load_file(self, path: Path) -> np.ndarray:
        """A sample from a file outside the data set, prepared like :meth:`load`; colours become grey if C is 1.

        Raises:
            DataError: the file cannot be read, is damaged, or is from another sensor.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of a prepared sample."""
        return np.dtype(np.uint8)

    @abstractmethod
    def preparation(self) -> Record:
        """Settings that prepared samples depend on."""

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Versions of the code that prepares these samples; a change invalidates prepared data."""
        return {"dataset": self.version}


class EventDataset(Dataset):
    """A data set of event-camera recordings.

    A subclass lists the recordings and their sensor size (``info["sensor"]``), and may override :meth:`events`, :meth:`read`, or
    :meth:`upright` for recordings that are stored rotated.
    """

    preset = {
        "arch": "vggsnn",
        "T": 10,
        "size": 48,
        "width_multiplier": 0.25,
        "epochs": 30,
        "batch_size": 16,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "loss": "tet",
        "augment": "roll",
    }

    @property
    def sensor(self) -> Sensor:
        """(width, height) of the sensor in pixels, in upright orientation."""
        width, height = self.info["sensor"]
        return width, height

    def events(self, sample: Sample) -> Events:
        """The events of one sample, upright.

        Raises:
            DataError: the recording is damaged.
        """
        return self.read(Path(sample.source))

    def read(self, path: Path) -> Events:
        """The events of any recording, upright, including files outside the data set.

        Raises:
            DataError: the recording is damaged.
        """
        events = readers.read(path, self.sensor)
        return self.upright(events, events.form)

    def upright(self, events: Events, form: str) -> Events:
        """Convert events from the reader ``form`` to upright orientation."""
        return events

    def load_file(self, path: Path) -> np.ndarray:
        # Random windows are seeded by the file name.
        return self.frames(self.read(path), Sample(path.name, 0, "test", str(path)))

    def load(self, sample: Sample) -> np.ndarray:
        return self.frames(self.events(sample), sample)

    def frames(self, events: Events, sample: Sample) -> np.ndarray:
        """Frames of the events of a sample, possibly after augmentation.

        Raises:
            DataError: no events.
        """
        name = str(sample.source) if isinstance(sample.source, str | Path) else sample.key
        sensor = self.sensor
        orientation = self.config.orientation
        upright = turned(events, sensor, orientation)
        draw = random.window(sample.key)
        return frames(upright, turned_sensor(sensor, orientation), self.config, name=name, draw=draw)[:, : self.channels]

    @property
    def shape(self) -> tuple[int, ...]:
        sensor = turned_sensor(self.sensor, self.config.orientation)
        return (self.config.T, self.channels, *frame_shape(sensor, self.config.size))

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.config)

    def preparation(self) -> Record:
        return {"orientation": self.config.orientation, "sensor": self.config.sensor, **preparation(self.config)}

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        endings = {splitext(sample.source)[1].lower() for sample in samples if isinstance(sample.source, str | Path)}
        return {**super().versions(samples), "frames": FRAMES_VERSION, **readers.versions(endings)}


class ImageDataset(Dataset):
    """A data set of images (C, S, S) as uint8. A subclass lists them and reads each as (H, W) or (H, W, C)."""

    static = True
    channels = 3
    preset = {
        "arch": "resnet19",
        "T": 2,
        "size": 32,
        "epochs": 100,
        "batch_size": 32,
        "lr": 0.05,
        "decay_lr": 1e-3,
        "augment": "crop,flip",
    }

    @abstractmethod
    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored, (H, W, 3) or (H, W), uint8.

        Raises:
            DataError: the file is damaged.
        """

    def load(self, sample: Sample) -> np.ndarray:
        return self._prepared(self.pixels(sample))

    def load_file(self, path: Path) -> np.ndarray:
        return self._prepared(read_image(path, "L" if self.channels == 1 else "RGB"))

    def _prepared(self, pixels: np.ndarray) -> np.ndarray:
        """Resize to S x S, bilinear with antialiasing, without keeping the aspect ratio."""
        size = (self.config.size, self.config.size)
        if pixels.shape[:2] != size:
            from PIL import Image

            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        return np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), -1, 0))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.config.size, self.config.size)

    def preparation(self) -> Record:
        return {"size": self.config.size}

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        return {**super().versions(samples), "images": IMAGES_VERSION}


def dataset_of(config: DataConfig, **options: Any) -> Dataset:
    """The data set that the settings name; arguments as for :class:`Dataset`."""
    dataset: Dataset = registry.get("dataset", config.dataset)(config, **options)
    return dataset


def datasets() -> list[str]:
    """Names of the data sets, for :func:`lsgcli.api.prepare` and :func:`lsgcli.api.train`.

    ``tonic:NAME`` and ``torchvision:NAME`` stand for the data sets of these libraries.
    """
    return registry.names("dataset")
