"""Recordings of the user, with one folder per class."""

import contextlib
import functools
import json
from pathlib import Path

from lsgcli.data import cache, parallel
from lsgcli.data.datasets.base import EventDataset, Listing, Sample, fingerprint
from lsgcli.data.events import Events
from lsgcli.data.folders import scan_own
from lsgcli.data.readers import read, suffixes
from lsgcli.data.splits import RULES
from lsgcli.errors import DataError, StorageError
from lsgcli.files import make_folder, write_json
from lsgcli.registry import register


@register("dataset", "event-folder")
class EventFolder(EventDataset):
    """Recordings in ``train/<class>/`` and ``test/<class>/``, in any supported format."""

    title = "Your own recordings, in any supported format: train/<class>/ and test/<class>/ in --data-dir, or <class>/ with --split."
    rules = tuple(RULES)
    takes_sensor = True
    preset = EventDataset.preset | {"resize": "bin"}

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        classes, samples = scan_own(self.config, splits, suffixes())
        width, height = self._sensor(samples)
        return Listing(classes, samples, {"sensor": [width, height]})

    def _sensor(self, samples: tuple[Sample, ...]) -> tuple[int, int]:
        """--sensor, or the sensor stated by the first recording, or that of a checkpoint, or the extent of all recordings."""
        if self.config.sensor is not None:
            width, height = self.config.sensor.split("x")
            return int(width), int(height)
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
        name = cache.digest(depends)
        note = cache.folder(self.config) / self.config.dataset / f"extent-{name}.json"
        with contextlib.suppress(OSError, ValueError, TypeError):
            width, height = json.loads(note.read_text(encoding="utf-8"))
            return int(width), int(height)
        work = functools.partial(_reach, skip_bad=self.config.skip_bad)
        reached = [found for _, found in parallel.each(work, [str(sample.source) for sample in samples], self.config.workers)]
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
    return int(events.x.max()) + 1, int(events.y.max()) + 1
