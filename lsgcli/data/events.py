"""Event-camera recordings as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Sensor = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Events:
    """N events in order of time.

    Attributes:
        x: (N,) column, uint16, 0 at the left.
        y: (N,) row, uint16, 0 at the top.
        t: (N,) time in microseconds, int64, non-decreasing.
        on: (N,) bool, True for an increase of brightness.
        sensor: (width, height) in pixels, which contains all events; None if it is not known.
        form: name of the reader; empty unless they are from a file.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    on: np.ndarray
    sensor: Sensor | None = None
    form: str = ""

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: Any) -> "Events":
        """The events selected by a slice, a mask or indices."""
        return Events(self.x[index], self.y[index], self.t[index], self.on[index], self.sensor, self.form)

    @property
    def extent(self) -> Sensor:
        """(width, height) of the smallest sensor that contains all events."""
        return int(self.x.max(initial=0)) + 1, int(self.y.max(initial=0)) + 1

    def outside(self, sensor: Sensor) -> int | None:
        """Index of the first event outside a sensor; None if there is none."""
        width, height = self.extent
        if width <= sensor[0] and height <= sensor[1]:
            return None
        return int(((self.x >= sensor[0]) | (self.y >= sensor[1])).argmax())


def sensor_of(text: str) -> Sensor:
    """The sensor of a text such as ``240x180``."""
    width, height = map(int, text.split("x"))
    return width, height


def in_order(events: Events) -> Events:
    """The events sorted by time (stable, so events with equal times keep their order)."""
    if (events.t[1:] < events.t[:-1]).any():
        return events[np.argsort(events.t, kind="stable")]
    return events


def joined(parts: Sequence[Events]) -> Events:
    """The events of one or several parts of a recording."""
    if len(parts) == 1:
        return parts[0]
    x, y, t, on = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "t", "on"))
    return Events(x, y, t, on, parts[0].sensor)


# Orientation -> what it does: t exchanges rows and columns, then x and y reverse them.
TURNS = {
    "upright": "",
    "mirrored": "x",
    "upside-down": "y",
    "rotated-180": "xy",
    "rotated-90": "tx",  # clockwise
    "rotated-270": "ty",
    "transposed": "t",
    "anti-transposed": "txy",
}


def turned_sensor(sensor: Sensor, orientation: str) -> Sensor:
    """(width, height) of the sensor after rotation or reflection."""
    return (sensor[1], sensor[0]) if "t" in TURNS[orientation] else sensor


def turned(events: Events, sensor: Sensor, orientation: str) -> Events:
    """Rotate or reflect events, for example of a camera that was mounted sideways.

    Args:
        sensor: (width, height), contains every event.
        orientation: ``upright`` changes nothing; ``mirrored`` exchanges left and right, ``upside-down`` top and bottom;
            ``rotated-90`` turns clockwise; ``transposed`` exchanges rows and columns.
    """
    x = events.x
    y = events.y
    how = TURNS[orientation]
    stated = events.sensor and turned_sensor(events.sensor, orientation)
    width, height = turned_sensor(sensor, orientation)
    if "t" in how:
        x, y = y, x
    if "x" in how:
        x = np.uint16(width - 1) - x
    if "y" in how:
        y = np.uint16(height - 1) - y
    return replace(events, x=x, y=y, sensor=stated)
