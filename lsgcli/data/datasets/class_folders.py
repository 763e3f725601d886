"""Data of the user, with one folder per class: recordings and images."""

import contextlib
import functools
from pathlib import Path

import numpy as np

from lsgcli import registry
from lsgcli.config.data import DataConfig
from lsgcli.data import cache, parallel
from lsgcli.data.datasets.base import (
    SPLITS,
    Dataset,
    EventDataset,
    ImageDataset,
    Listing,
    Sample,
    fingerprint,
)
from lsgcli.data.events import Events, sensor_of
from lsgcli.data.folders import scan_classes, scan_folders
from lsgcli.data.images import image_suffixes, read_image
from lsgcli.data.readers.base import read, suffixes
from lsgcli.data.splits import RULES
from lsgcli.errors import ConfigError, DataError, StorageError
from lsgcli.registry import register
from lsgcli.system import schema
from lsgcli.system.files import make_folder, write_json


def _scan(config: DataConfig, splits: tuple[str, ...], endings: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """The classes and samples of a folder with folders for the splits, or split by --split."""
    if config.data_dir is None:
        title = registry.get("dataset", config.dataset).title
        raise ConfigError(
            f"--data-dir: not given, but required for the data set {config.dataset}",
            hint=f"Give --data-dir DIR. {config.dataset}: {title}",
        )
    root = config.data_folder
    if (rule := config.split_rule) is not None:
        return scan_classes(root, splits, endings, rule, config.split_seed)
    other = f"or, if {root} contains the class folders, give --split stratified."
    return scan_folders(root, {split: split for split in splits}, endings, other)


class ClassFolders(Dataset):
    """Base class of both kinds of data."""

    rules = tuple(RULES)

    @property
    def class_folders(self) -> tuple[Path, ...]:
        """``train`` and ``test``, or the folder itself with --split or --fold."""
        if self.config.data_dir is None:
            return ()
        return (self.root,) if self.config.split_rule is not None else tuple(self.root / split for split in SPLITS)


@register("dataset", "event-folder")
class EventFolder(ClassFolders, EventDataset):
    """Recordings in ``train/<class>/`` and ``test/<class>/``, in any supported format."""

    title = "Your own recordings, in any supported format: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."
    takes_sensor = True
    preset = EventDataset.preset | {"resize": "bin"}

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        classes, samples = _scan(self.config, splits, suffixes())
        return Listing(classes, samples, {"sensor": [*self._sensor(samples)]})

    def _sensor(self, samples: tuple[Sample, ...]) -> tuple[int, int]:
        """--sensor, or the sensor stated by the first recording, or that of a checkpoint, or the extent of all recordings."""
        if self.config.sensor is not None:
            return sensor_of(self.config.sensor)
        stated = self._first(samples).sensor
        if stated is None and "sensor" in self.expected:  # the extent of some recordings may be smaller
            width, height = self.expected["sensor"]
            return width, height
        return stated or self._extent(samples)

    def _first(self, samples: tuple[Sample, ...]) -> Events:
        """The first recording, or with --skip-bad the first readable one."""
        for sample in samples[:-1] if self.config.skip_bad else ():
            with contextlib.suppress(DataError):
                return read(Path(sample.source))
        return read(Path(samples[-1 if self.config.skip_bad else 0].source))

    def _extent(self, samples: tuple[Sample, ...]) -> tuple[int, int]:
        """The extent of the events of all recordings, cached with the prepared data until a recording changes."""
        depends = {"fingerprint": fingerprint(samples), "versions": self.versions(samples), "skip_bad": self.config.skip_bad}
        note = cache.folder(self.machine) / self.config.dataset / f"extent-{cache.digest(depends)}.json"
        with contextlib.suppress(DataError):  # none yet
            width, height = schema.read(note, tuple[int, int], DataError)
            return width, height
        work = functools.partial(_reach, skip_bad=self.config.skip_bad)
        reached = list(parallel.each(work, [str(sample.source) for sample in samples], self.machine.workers))
        width, height = (max(axis) for axis in zip(*reached, strict=True))
        with contextlib.suppress(StorageError):  # then it is recomputed next time
            make_folder(note.parent)
            write_json(note, [width, height])
        return width, height


def _reach(path: str, *, skip_bad: bool) -> tuple[int, int]:
    """The extent of the events of a recording; (1, 1) if it is skipped."""
    try:
        events = read(Path(path))
    except DataError:
        if skip_bad:
            return 1, 1
        raise
    if events.sensor is not None:
        raise DataError(
            f"{path}: found a recording that states its sensor among others that do not",
            hint="Give --sensor WIDTHxHEIGHT.",
        )
    return events.extent


@register("dataset", "image-folder")
class ImageFolder(ClassFolders, ImageDataset):
    """Images in ``train/<class>/`` and ``test/<class>/``, in AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF or WebP."""

    title = "Your own images: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        return Listing(*_scan(self.config, splits, image_suffixes()))

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return read_image(Path(sample.source))
