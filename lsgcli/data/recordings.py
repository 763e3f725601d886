"""Data sets of recordings: files that become frames."""

from collections.abc import Iterable
from os.path import splitext
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data import random, readers
from lsgcli.data.base import Dataset, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.data.frames import VERSION as FRAMES_VERSION
from lsgcli.data.frames import FrameSettings, frames
from lsgcli.data.orientation import turned, turned_sensor
from lsgcli.data.resampling import shape


class EventDataset(Dataset):
    """A data set whose samples are recordings of an event camera.

    A subclass lists them, says in ``info["sensor"]`` how large the sensor is, and may override :meth:`events`, or :meth:`upright`
    where its recordings lie on their side.
    """

    static = False

    def events(self, sample: Sample, listing: Listing) -> Events:
        """The events of one sample, upright.

        Raises:
            DataError: the recording is damaged.
        """
        return self.read(Path(sample.source), sensor_of(listing))

    def read(self, path: Path, sensor: tuple[int, int]) -> Events:
        """The events of a recording, upright, whether or not the data set lists it.

        Raises:
            DataError: the recording is damaged.
        """
        form = readers.identify(path)
        return self.upright(readers.read(path, sensor), form)

    def upright(self, events: Events, form: str) -> Events:
        """Events that the reader ``form`` read, as the data set shows them."""
        return events

    def load_file(self, path: Path, listing: Listing) -> np.ndarray:
        """Frames (T, 2, S, S) of a recording. Random windows are drawn from the file's name."""
        return self.frames(self.read(path, sensor_of(listing)), Sample(path.name, 0, "test", str(path)), listing)

    def load(self, sample: Sample, listing: Listing) -> np.ndarray:
        """Frames (T, 2, S, S), uint8 or float16: see :class:`~lsgcli.data.frames.FrameSettings`.

        Raises:
            DataError: the recording is damaged, or of another sensor than the rest.
        """
        return self.frames(self.events(sample, listing), sample, listing)

    def frames(self, events: Events, sample: Sample, listing: Listing) -> np.ndarray:
        """Frames of events that were read, and perhaps changed, before.

        Raises:
            DataError: no events.
        """
        name = str(sample.source) if isinstance(sample.source, str | Path) else sample.key
        sensor = sensor_of(listing)
        draw = random.window(sample.key)
        orientation = self.config.orientation
        return frames(
            turned(events, sensor, orientation), turned_sensor(sensor, orientation), self.settings, name=name, draw=draw
        )

    @property
    def settings(self) -> FrameSettings:
        """How frames are made."""
        return FrameSettings.of(self.config)

    def shape(self, listing: Listing) -> tuple[int, ...]:
        """Shape of one prepared sample."""
        return (self.config.T, 2, *shape(turned_sensor(sensor_of(listing), self.config.orientation), self.size))

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


def sensor_of(listing: Listing) -> tuple[int, int]:
    """(width, height) of the sensor, in pixels, as the data set shows it."""
    width, height = listing.info["sensor"]
    return width, height
