"""What a data set is: it lists its samples, and turns one of them into the array that a network sees."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli import registry
from lsgcli.config import RunConfig
from lsgcli.errors import ConfigError, DataError

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Sample:
    """One recording or image.

    Attributes:
        key: stable name such as ``train/cat/0001.png``; order and augmentation derive from it, so it must not depend on
            the machine, the folder that the data lie in, or the order in which the system lists files.
        label: index into the listing's classes.
        split: ``train`` or ``test``.
        source: what ``Dataset.load`` needs to find it: a path, or a number.
        stamp: size and times of the source, or a version: when it changes, prepared data are stale.
    """

    key: str
    label: int
    split: str
    source: Any
    stamp: str = ""


@dataclass(frozen=True)
class Listing:
    """The samples of a data set.

    Attributes:
        classes: names, in label order.
        samples: in a fixed order.
        channels: C of (C, S, S) images, or 2 (ON, OFF) of frames.
        static: images, shown at every timestep, rather than frames of a recording.
        info: facts that a checkpoint should record (sensor, release, orientation, ...), as JSON types.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    channels: int
    static: bool
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of names, sizes and times of all samples."""
        return fingerprint(self.samples)

    def part(self, split: str) -> tuple[Sample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)


def fingerprint(samples: Iterable[Sample]) -> str:
    """Digest of the keys and stamps of some samples."""
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        digest.update(f"{sample.key}\0{sample.stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Dataset(ABC):
    """A data set under a configuration. Subclasses live in ``lsgcli.data.sets``, one a file, and register themselves.

    Attributes:
        preset: settings that suit this data set; keys are fields of RunConfig.
        title: one line for help pages and documentation.
        static: images rather than recordings.
        embedded: lsg brings the data; there is no folder.
        line: frames of one row, 1 x S, which not every network takes.
        rules: which ``--split`` it takes; none where a test part is published, or given by folders.
        published: how many samples there are, of each part or (``all``) in all, where that is published.
        downloads: what is not there is fetched, unless :attr:`fetches` is False.
        takes_sensor: ``--sensor`` has a meaning for it.
        packed: prepared samples are worth a cache file; False where loading one is as quick as reading it back.
        version: of this class; raise it when it makes other samples of the same source.
    """

    preset: ClassVar[Mapping[str, Any]] = {}
    title: ClassVar[str] = ""
    static: ClassVar[bool] = False
    embedded: ClassVar[bool] = False
    line: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Mapping[str, int]] = {}
    downloads: ClassVar[bool] = False
    takes_sensor: ClassVar[bool] = False
    packed: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, config: RunConfig):
        self.config = config
        self.expected: Mapping[str, Any] = {}  # the ``info`` of the data that a checkpoint was trained on
        self.fetches = True  # what is not there is downloaded, where the data set can be
        self.downloading: Callable[[str, int, int], None] | None = None  # is told a file's name, bytes done, bytes in all

    def __getstate__(self) -> dict[str, Any]:
        """Without the callback: processes that load samples do not download."""
        return {**self.__dict__, "downloading": None}

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
                hint="Leave --split out, or choose another.",
            )
        if self.root.exists() and not self.root.is_dir() and (self.downloads or self.config.data_dir is not None):
            raise DataError(
                f"{self.root}: found a file, expected the folder of the data set {self.config.dataset}",
                hint="Give --data-dir a folder." + (" Archives in it are unpacked." if self.downloads else ""),
            )

    @property
    def root(self) -> Path:
        """Folder of the data: --data-dir, or ``data`` in the working directory."""
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
    def scan(self, splits: tuple[str, ...] = SPLITS) -> Listing:
        """List the samples of the given splits.

        Raises:
            DataError: the data are not there, or not laid out as expected.
        """

    @abstractmethod
    def load(self, sample: Sample, listing: Listing) -> np.ndarray:
        """One prepared sample: frames (T, 2, S, S), or an image (C, S, S) of uint8.

        Raises:
            DataError: the sample's file is damaged; the message names it.
        """

    @abstractmethod
    def load_file(self, path: Path, listing: Listing) -> np.ndarray:
        """A prepared sample of a file that the data set does not list, as :meth:`load` would prepare it.

        Args:
            listing: ``info``, ``channels`` and ``static`` of the training data; its samples are not looked at.

        Raises:
            DataError: the file cannot be read, is damaged, or is of another sensor.
        """

    @abstractmethod
    def shape(self, listing: Listing) -> tuple[int, ...]:
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
