"""Data of the user, with one folder per class: recordings and images."""

import contextlib
from pathlib import Path

import numpy as np

from lsgcli.config.data import DataConfig
from lsgcli.data.datasets.base import SPLITS, Dataset, EventDataset, ImageDataset, Listing, Sample, Splits
from lsgcli.data.events import Events, Sensor, sensor_of
from lsgcli.data.folders import Scanned, scan_classes, scan_folders, visible
from lsgcli.data.images import image_suffixes, read_image
from lsgcli.data.readers.base import read, suffixes
from lsgcli.data.splits import RULES
from lsgcli.errors import ConfigError, DataError
from lsgcli.registry import register


def _scan(config: DataConfig, splits: Splits, endings: tuple[str, ...]) -> Scanned:
    """The classes and samples of a folder with folders for the splits, or split by --split."""
    if config.data_dir is None:
        raise ConfigError(
            f"--data-dir: not given, but required for the data set {config.dataset}",
            "Give --data-dir DIR, a folder with train/<class>/ and test/<class>/, or <class>/ with --split.",
        )
    root = config.data_folder
    if (rule := config.split_rule) is not None:
        parts = [root / part for part in SPLITS]
        if all(part.is_dir() and any(Path(entry.path).is_dir() for entry in visible(part)) for part in parts):
            option = "--split" if config.fold is None else "--fold"
            raise DataError(
                f"{root}: found train/<class>/ and test/<class>/, expected <class>/, of which {option} makes both parts",
                f"Omit {option}, or move the classes of both parts to one folder.",
            )
        return scan_classes(root, splits, endings, rule, config.split_seed)
    other = f"; or, if {root} contains the class folders, give --split stratified"
    return scan_folders(root, {split: split for split in splits}, endings, other)


class ClassFolders(Dataset):
    """Base class of both kinds of data."""

    rules = tuple(RULES)

    @property
    def class_folders(self) -> tuple[Path, ...]:
        """``train`` and ``test``, or the folder itself with --split or --fold."""
        parts = SPLITS if self.config.split_rule is None else ("",)
        return tuple(self.root / part for part in parts)


@register("dataset", "event-folder")
class EventFolder(ClassFolders, EventDataset):
    """Recordings in ``train/<class>/`` and ``test/<class>/``, in any supported format."""

    title = "Your own recordings, in any supported format: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."
    takes_sensor = True
    preset = EventDataset.preset | {"resize": "bin"}

    def find(self, splits: Splits) -> Listing:
        """The samples of the given splits."""
        classes, samples = _scan(self.config, splits, suffixes())
        return Listing(classes, samples, {"sensor": [*self._sensor(samples)]})

    def _sensor(self, samples: tuple[Sample, ...]) -> Sensor:
        """--sensor, or the sensor that the first recording states, or that of a checkpoint.

        Raises:
            ConfigError: there is none of them.
        """
        if self.config.sensor is not None:
            return sensor_of(self.config.sensor)
        first = self._first(samples)
        if stated := first.sensor or self.expected.get("sensor"):
            width, height = stated
            return width, height
        width, height = first.extent
        raise ConfigError(
            f"sensor: found none, and recordings in {self.root} that do not state it, expected its width and height in pixels",
            f"Give --sensor WIDTHxHEIGHT; the events of one recording need {width}x{height}, and `lsg data info` looks at all.",
        )

    def _first(self, samples: tuple[Sample, ...]) -> Events:
        """The first readable recording."""
        *others, last = samples
        for sample in others:
            with contextlib.suppress(DataError):
                return read(Path(sample.source))
        return read(Path(last.source))


@register("dataset", "image-folder")
class ImageFolder(ClassFolders, ImageDataset):
    """Images in ``train/<class>/`` and ``test/<class>/``, in AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TGA, TIFF or WebP."""

    title = "Your own images: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."

    def find(self, splits: Splits) -> Listing:
        """The samples of the given splits."""
        return Listing(*_scan(self.config, splits, image_suffixes()))

    def pixels(self, sample: Sample) -> np.ndarray:
        """One image as stored."""
        return read_image(Path(sample.source))
