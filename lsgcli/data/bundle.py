"""Prepared data, ready for batches."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import numpy as np
from msgspec import Meta

from lsgcli.config.fields import Values
from lsgcli.errors import ConfigError
from lsgcli.system.schema import Record

Channels = tuple[float, ...]  # a value of each channel
OUTCOMES = ("left_out", "saturated", "medians")  # keys of info about loading; all others describe the data
_Positive = Annotated[int, Meta(ge=1)]
_Side = Annotated[int, Meta(ge=1, le=1 << 16)]


class Medians(TypedDict):
    """Medians over the recordings of the training part."""

    events: _Positive
    duration_us: _Positive


class Description(TypedDict, total=False):
    """What a checkpoint states about its training data: facts of a :class:`DataBundle`, and others of the data set."""

    static: bool
    channels: _Positive
    mean: list[Annotated[float, Meta(ge=-1e12, le=1e12)]] | None  # float32 without overflow
    std: list[Annotated[float, Meta(ge=1e-12, le=1e12)]] | None
    samples: str
    sensor: tuple[_Side, _Side]
    versions: dict[str, int]
    medians: Medians | None


class Rows:
    """Lazily selected rows of an array, so that a memory-mapped file stays on disk."""

    def __init__(self, base: np.ndarray, rows: np.ndarray):
        self.base = base
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.base[self.rows[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.base[self.rows], dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selected rows, (N, ...)."""
        return (len(self.rows), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type."""
        return self.base.dtype


@dataclass(frozen=True)
class Split:
    """N prepared samples.

    Attributes:
        x: frames (N, T, 2, S, S) or images (N, C, S, S); an array, a memory map, or rows of one.
        y: (N,) int64 labels.
        ids: (N,) uint64, seeds of order and augmentation.
        keys: N stable names.
    """

    x: np.ndarray | Rows
    y: np.ndarray
    ids: np.ndarray
    keys: list[str]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def path(self) -> str | None:
        """The file that contains the samples; None if they are in memory."""
        base = self.x.base if isinstance(self.x, Rows) else self.x
        return str(base.filename) if isinstance(base, np.memmap) else None

    def part(self, rows: np.ndarray) -> "Split":
        """The samples at ``rows``."""
        base, index = (self.x.base, self.x.rows[rows]) if isinstance(self.x, Rows) else (self.x, rows)
        return Split(Rows(base, index), self.y[rows], self.ids[rows], [self.keys[i] for i in rows])


def spread(split: Split, n: int, first: int = 0) -> Split:
    """n evenly spaced samples from ``first`` on, cyclically, or all if there are fewer; if samples are sorted by class, they cover all classes."""
    n = min(n, len(split))
    return split.part((first + np.arange(n) * len(split) // max(1, n)) % max(1, len(split)))


@dataclass(frozen=True)
class DataBundle:
    """A prepared data set.

    Attributes:
        classes: class names, in label order.
        train, val, test: None if not requested, or if no validation split is held out.
        channels: C of images or frames.
        static: whether samples are images rather than frames of recordings.
        mean, std: per channel, on the 0..1 scale, for images; None for frames, or if the training part is not read.
        info: facts about the data for checkpoints, as JSON types.
        files: digests of the ``sizes`` and of the ``stamps`` (sizes and times) of the files, to detect changes on resuming.
    """

    classes: tuple[str, ...]
    train: Split | None
    val: Split | None
    test: Split | None
    channels: int
    static: bool
    mean: Channels | None
    std: Channels | None
    info: Values = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """H of the frames or images; W is the setting ``size``."""
        return int(next(iter(self.parts.values())).x.shape[-2])

    @property
    def parts(self) -> dict[str, Split]:
        """The existing parts by name."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in parts.items() if split is not None}

    def named(self, name: str) -> Split:
        """The part with a name.

        Raises:
            ConfigError: the data do not have it.
        """
        if name not in self.parts:
            raise ConfigError(f"split: found {name!r}, expected one of {', '.join(self.parts)}")
        return self.parts[name]

    def sizes(self) -> dict[str, int]:
        """Number of samples of each existing part."""
        return {name: len(split) for name, split in self.parts.items()}

    def record(self) -> Record:
        """Description of each part, as JSON types: recordings per class, shape of a sample, bytes, and file."""
        described = {}
        for name, split in self.parts.items():
            shape = split.x.shape
            dtype = split.x.dtype
            counts = np.bincount(split.y, minlength=len(self.classes)).tolist()
            described[name] = {
                "recordings": len(split),
                "classes": dict(zip(self.classes, counts, strict=True)),
                "shape": list(shape[1:]),
                "dtype": str(dtype),
                "bytes": math.prod(shape) * dtype.itemsize,
                "path": split.path,
            }
        return described

    def digest(self) -> str:
        """Digest of training and validation samples, labels and preparation, which must not change when a run is resumed."""
        found = hashlib.blake2b(digest_size=12)
        described = {key: value for key, value in self.info.items() if key not in OUTCOMES}
        found.update(json.dumps(described, sort_keys=True).encode() + b"|")
        for split in (self.train, self.val):
            if split is not None:
                found.update(split.ids.tobytes() + split.y.tobytes())
            found.update(b"|")
        return found.hexdigest()

    def content_digest(self) -> str:
        """Digest of :meth:`digest` and of the content of up to 32 samples per part, to detect different data with the same names."""
        found = hashlib.blake2b(self.digest().encode(), digest_size=12)
        for split in (self.train, self.test):
            if split is not None:
                found.update(split.ids.tobytes() + split.y.tobytes() + np.ascontiguousarray(spread(split, 32).x).tobytes())
        return found.hexdigest()
