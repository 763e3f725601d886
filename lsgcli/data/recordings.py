"""Data sets of recordings: files that become frames."""

from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data import frames as making
from lsgcli.data.base import Dataset, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.data.readers import read
from lsgcli.errors import DataError


class EventDataset(Dataset):
    """A data set whose samples are recordings of an event camera.

    A subclass lists them, says in ``info["sensor"]`` how large the sensor is, and may override :meth:`events`.
    """

    static = False

    def events(self, sample: Sample, listing: Listing) -> Events:
        """The events of one sample, upright.

        Raises:
            DataError: the recording is damaged.
        """
        return read(Path(sample.source))

    def load(self, sample: Sample, listing: Listing) -> np.ndarray:
        """Frames (T, 2, S, S): counts as uint8, or float16 where --resize interpolates.

        Raises:
            DataError: the recording is damaged, or from another sensor than the rest.
        """
        name = str(sample.source) if isinstance(sample.source, str | Path) else sample.key
        events = self.events(sample, listing)
        width, height = listing.info["sensor"]
        if events.sensor not in (None, (width, height)) and self.config.sensor is None:
            assert events.sensor is not None
            raise DataError(
                f"{name}: found a sensor of {events.sensor[0]}x{events.sensor[1]}, expected {width}x{height} like the rest",
                hint="Keep recordings of one sensor together, or give --sensor WIDTHxHEIGHT to read all of them as that.",
            )
        config = self.config
        return making.frames(events, config.T, self.size, (width, height), config.slicing, config.resize, name=name)

    def shape(self, listing: Listing) -> tuple[int, ...]:
        """Shape of one prepared sample."""
        return (self.config.T, 2, self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return np.dtype(np.float16 if self.config.resize == "bilinear" else np.uint8)

    def preparation(self) -> dict[str, Any]:
        """What a prepared sample depends on."""
        config = self.config
        return {
            "T": config.T,
            "size": config.size,
            "slicing": config.slicing,
            "resize": config.resize,
            "frames_version": making.VERSION,
        }
