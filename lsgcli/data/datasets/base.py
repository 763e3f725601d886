"""What a data set is: it lists its samples, and turns one of them into the array that a network sees."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os.path import splitext
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from lsgcli import registry
from lsgcli.config import RunConfig
from lsgcli.data import random, readers
from lsgcli.data.events import Events
from lsgcli.data.frames import VERSION as FRAMES_VERSION
from lsgcli.data.frames import FrameSettings, frames
from lsgcli.data.guard import foreign
from lsgcli.data.orientation import turned, turned_sensor
from lsgcli.data.resampling import shape as frame_shape
from lsgcli.errors import ConfigError, DataError

SPLITS = ("train", "test")
IMAGES_VERSION = 1  # raise it when the same pixels give other images
Progress = Callable[[str, int, int], None]  # what, how much of it is done, how much there is


@dataclass(frozen=True)
class Sample:
    """One recording or image.

    Attributes:
        key: stable name such as ``train/cat/0001.png``; order and augmentation derive from it, so it must not depend on
            the machine, the folder that the data lie in, or the order in which the system lists files.
        label: index into the data set's classes.
        split: ``train`` or ``test``.
        source: what ``Dataset.load`` needs to find it: a path, or a number.
        stamp: size and times of the source, or a version: when it changes, prepared data are stale.
    """

    key: str
    label: int
    split: str
    source: Any
    stamp: str = ""


def fingerprint(samples: Iterable[Sample]) -> str:
    """Digest of the keys and stamps of some samples."""
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        digest.update(f"{sample.key}\0{sample.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Listing(NamedTuple):
    """The samples of a data set.

    Attributes:
        classes: names, in label order.
        samples: in a fixed order.
        info: facts that a checkpoint should record (sensor, release, orientation, ...), as JSON types.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    info: Mapping[str, Any] = {}


class Dataset(ABC):
    """A data set under a configuration. Subclasses live in ``lsgcli.data.datasets``, one a file, and register themselves.

    After :meth:`scan`, it has ``classes``, ``samples`` and ``info``, as in :class:`Listing`. Before, ``info`` is what is expected.

    Args:
        config: settings of the run.
        expected: ``info`` of the data that a checkpoint was trained on.
        may_download: download what is not there, where the data set can be downloaded.
        progress: called with a file's name, bytes done and bytes in all while it is downloaded or unpacked.

    Attributes:
        preset: settings that suit this data set; keys are fields of RunConfig.
        title: one line for help pages and documentation.
        static: images rather than recordings.
        embedded: lsg brings the data; there is no folder.
        channels: C of (C, S, S) images, or of frames: 2 (ON, OFF), or 1 where events have no polarity.
        line: frames of one row, 1 x S, which not every network takes.
        rules: which ``--split`` it takes; none where a test part is published, or given by folders.
        published: how many samples there are, of each part or (``all``) in all, where that is published.
        downloads: it can be downloaded.
        takes_sensor: ``--sensor`` has a meaning for it.
        packed: prepared samples are worth a cache file; False where loading one is as quick as reading it back.
        version: of this class; raise it when it makes other samples of the same source.
    """

    preset: ClassVar[Mapping[str, Any]] = {}
    title: ClassVar[str] = ""
    static: ClassVar[bool] = False
    embedded: ClassVar[bool] = False
    channels: int = 2
    line: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Mapping[str, int]] = {}
    downloads: ClassVar[bool] = False
    takes_sensor: ClassVar[bool] = False
    packed: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(
        self,
        config: RunConfig,
        *,
        expected: Mapping[str, Any] | None = None,
        may_download: bool = True,
        progress: Progress | None = None,
    ):
        self.config, self.expected, self.may_download, self.progress = config, expected or {}, may_download, progress
        self.classes, self.samples, self.info = Listing((), (), self.expected)

    def __getstate__(self) -> dict[str, Any]:
        """As processes that load samples need it: they are given each sample, and do not download."""
        return {**self.__dict__, "progress": None, "samples": ()}

    def scan(self, splits: tuple[str, ...] = SPLITS) -> Self:
        """List the samples of the given splits, downloading what can be and is not there; returns the data set itself.

        Raises:
            DataError: the data are not there, or not laid out as expected.
        """
        self.classes, self.samples, self.info = self.find(splits)
        return self

    @abstractmethod
    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits: see :meth:`scan`."""

    def part(self, split: str) -> tuple[Sample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def check(self) -> None:
        """Look at the settings before anything is read.

        Raises:
            ConfigError: a ``--split`` that this data set has no use for.
            DataError: a ``--data-dir`` that is a file.
        """
        split = self.config.split
        if split is not None and split not in self.rules:
            expected = f"one of {', '.join(self.rules)}" if self.rules else "none: its test part is given"
            raise ConfigError(
                f"--split: found {split!r} for the data set {self.config.dataset}, expected {expected}",
                hint="Omit --split, or choose another.",
            )
        if self.root.exists() and not self.root.is_dir() and (self.downloads or self.config.data_dir is not None):
            raise DataError(
                f"{self.root}: found a file, expected the folder of the data set {self.config.dataset}",
                hint="Give --data-dir a folder." + (" Archives in it are unpacked." if self.downloads else ""),
            )

    @property
    def root(self) -> Path:
        """--data-dir, or ``data`` in the working directory."""
        return Path(self.config.data_dir or "data")

    @property
    def home(self) -> Path:
        """The folder that the data lie in: :attr:`root`, or one below it."""
        return self.root

    @property
    def size(self) -> int:
        """Height and width S of prepared samples, in pixels."""
        return self.config.size

    @abstractmethod
    def load(self, sample: Sample) -> np.ndarray:
        """One prepared sample: frames (T, 2, S, S), or an image (C, S, S) of uint8.

        Raises:
            DataError: the sample's file is damaged; the message names it.
        """

    @abstractmethod
    def load_file(self, path: Path) -> np.ndarray:
        """A prepared sample of a file that the data set does not list, as :meth:`load` would prepare it.

        Raises:
            DataError: the file cannot be read, is damaged, or is of another sensor.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements of a prepared sample."""
        return np.dtype(np.uint8)

    @abstractmethod
    def preparation(self) -> dict[str, Any]:
        """The settings that a prepared sample depends on."""

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Versions of the code that prepares these samples: where one was raised, what was prepared before is stale."""
        return {"dataset": self.version}

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Published mean and standard deviation per channel, on the 0..1 scale.

        None means: measured on the training images, or for recordings no normalisation.
        """
        return None


class EventDataset(Dataset):
    """A data set whose samples are recordings of an event camera.

    A subclass lists them, says in ``info["sensor"]`` how large the sensor is, and may override :meth:`events`, :meth:`read`, or
    :meth:`upright` where its recordings lie on their side.
    """

    @property
    def sensor(self) -> tuple[int, int]:
        """(width, height) of the sensor in pixels, as the data set shows it."""
        width, height = self.info["sensor"]
        return width, height

    def events(self, sample: Sample) -> Events:
        """The events of one sample, upright.

        Raises:
            DataError: the recording is damaged.
        """
        return self.read(Path(sample.source))

    def read(self, path: Path) -> Events:
        """The events of a recording, upright, whether or not the data set lists it.

        Raises:
            DataError: the recording is damaged.
        """
        return self.upright(readers.read(path, self.sensor), readers.identify(path))

    def upright(self, events: Events, form: str) -> Events:
        """Events that the reader ``form`` read, as the data set shows them."""
        return events

    def load_file(self, path: Path) -> np.ndarray:
        """Frames (T, 2, S, S) of a recording. Random windows are drawn from the file's name."""
        return self.frames(self.read(path), Sample(path.name, 0, "test", str(path)))

    def load(self, sample: Sample) -> np.ndarray:
        """Frames (T, 2, S, S), uint8 or float16: see :class:`~lsgcli.data.frames.FrameSettings`.

        Raises:
            DataError: the recording is damaged, or of another sensor than the rest.
        """
        return self.frames(self.events(sample), sample)

    def frames(self, events: Events, sample: Sample) -> np.ndarray:
        """Frames of events that were read, and perhaps changed, before.

        Raises:
            DataError: no events.
        """
        name = str(sample.source) if isinstance(sample.source, str | Path) else sample.key
        sensor, orientation = self.sensor, self.config.orientation
        upright, draw = turned(events, sensor, orientation), random.window(sample.key)
        return frames(upright, turned_sensor(sensor, orientation), self.settings, name=name, draw=draw)[:, : self.channels]

    @property
    def settings(self) -> FrameSettings:
        """How frames are made."""
        return FrameSettings.of(self.config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared sample."""
        return (self.config.T, self.channels, *frame_shape(turned_sensor(self.sensor, self.config.orientation), self.size))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.settings.dtype

    def preparation(self) -> dict[str, Any]:
        """What a prepared sample depends on."""
        return {"orientation": self.config.orientation, "sensor": self.config.sensor, **self.settings.digest()}

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Versions of the code that prepares these samples."""
        endings = {splitext(sample.source)[1].lower() for sample in samples if isinstance(sample.source, str | Path)}
        read_by = {f"reader {name}": version for name, version in readers.versions(endings).items()}
        return {**super().versions(samples), "frames": FRAMES_VERSION, **read_by}


class ImageDataset(Dataset):
    """A data set whose samples are images (C, S, S) of uint8. A subclass lists them and reads one as (H, W) or (H, W, C)."""

    static = True
    channels = 3

    @abstractmethod
    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored, (H, W, 3) or (H, W), uint8.

        Raises:
            DataError: its file is damaged.
        """

    def load(self, sample: Sample) -> np.ndarray:
        """An image (C, S, S) of uint8.

        Raises:
            DataError: its file is damaged.
        """
        return self._prepared(self.pixels(sample))

    def load_file(self, path: Path) -> np.ndarray:
        """An image file as (C, S, S) of uint8, in grey where C is 1."""
        return self._prepared(read_image(path, "L" if self.channels == 1 else "RGB"))

    def _prepared(self, pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(np.atleast_3d(fit(pixels, self.size)), -1, 0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared sample."""
        return (self.channels, self.size, self.size)

    def preparation(self) -> dict[str, Any]:
        """What a prepared sample depends on."""
        return {"size": self.config.size}

    def versions(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Versions of the code that prepares these samples."""
        return {**super().versions(samples), "images": IMAGES_VERSION}


def fit(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W[, C]) uint8 to (size, size[, C]), bilinear with antialias; the aspect is not kept."""
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file as uint8, (H, W, 3), or (H, W) where Pillow's ``mode`` is ``L``.

    Raises:
        DataError: not an image, or damaged.
    """
    with foreign(path, "an image", hint="Replace it, or take it out of the folder."):
        from PIL import Image

        with Image.open(path) as image:
            return np.asarray(image.convert(mode))


def image_suffixes() -> tuple[str, ...]:
    """The endings of file names that Pillow can read."""
    from PIL import Image

    Image.init()
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN))


def need_folder(config: RunConfig) -> Path:
    """The --data-dir of a data set that has no folder by default.

    Raises:
        ConfigError: it was not given.
    """
    if config.data_dir is None:
        title = registry.get("dataset", config.dataset).title
        raise ConfigError(
            f"--data-dir is missing: the data set {config.dataset} has no folder by default",
            hint=f"Give --data-dir DIR. {config.dataset} is: {title}",
        )
    return Path(config.data_dir)
