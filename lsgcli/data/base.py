"""What a data set is: it lists its samples, and turns one of them into the array that a network sees."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.config import RunConfig
from lsgcli.errors import ConfigError

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
        stamp: size and modification time of the source, or a version: when it changes, prepared data are stale.
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
        """Digest of names, sizes and modification times of all samples."""
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
        line: frames of one row, 1 x S, which not every network takes.
        rules: which ``--split`` it takes; none where a test part is published, or given by folders.
        published: how many samples there are, of each part or (``all``) in all, where that is published.
        packed: prepared samples are worth a cache file; False where loading one is as quick as reading it back.
    """

    preset: ClassVar[Mapping[str, Any]] = {}
    title: ClassVar[str] = ""
    static: ClassVar[bool] = False
    line: ClassVar[bool] = False
    rules: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Mapping[str, int]] = {}
    packed: ClassVar[bool] = True

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
        """
        split = self.config.split
        if split is not None and split not in self.rules:
            expected = f"one of {', '.join(self.rules)}" if self.rules else "none: its test part is given"
            raise ConfigError(
                f"--split: found {split!r} for the data set {self.config.dataset}, expected {expected}",
                hint="Leave --split out, or choose another.",
            )

    @property
    def root(self) -> Path:
        """Folder of the data: --data-dir, or ``data`` in the working directory."""
        return Path(self.config.data_dir or "data")

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
    def shape(self, listing: Listing) -> tuple[int, ...]:
        """Shape of one prepared sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements of a prepared sample."""
        return np.dtype(np.uint8)

    @abstractmethod
    def preparation(self) -> dict[str, Any]:
        """The settings, and versions of our own code, that a prepared sample depends on."""

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Published mean and standard deviation per channel, on the 0..1 scale.

        None means: measured on the training images, or for recordings no normalisation.
        """
        return None


def need_folder(config: RunConfig) -> Path:
    """The --data-dir of a data set that cannot be downloaded.

    Raises:
        ConfigError: it was not given.
    """
    if config.data_dir is None:
        raise ConfigError(
            f"--data-dir is missing: the data set {config.dataset} reads a folder of yours",
            hint="`lsg data info --help` and docs/data.md say how it is laid out.",
        )
    return Path(config.data_dir)
