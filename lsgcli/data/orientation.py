"""Rotation and reflection of recordings, for example from a camera that was mounted sideways."""

from collections.abc import Callable

import numpy as np

from lsgcli.data.events import Events

Turn = Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]  # x, y, width - 1, height - 1 -> x', y'

TURNS: dict[str, Turn] = {
    "upright": lambda x, y, right, bottom: (x, y),
    "mirrored": lambda x, y, right, bottom: (right - x, y),
    "upside-down": lambda x, y, right, bottom: (x, bottom - y),
    "rotated-180": lambda x, y, right, bottom: (right - x, bottom - y),
    "rotated-90": lambda x, y, right, bottom: (bottom - y, x),  # clockwise
    "rotated-270": lambda x, y, right, bottom: (y, right - x),
    "transposed": lambda x, y, right, bottom: (y, x),
    "anti-transposed": lambda x, y, right, bottom: (bottom - y, right - x),
}
SWAP_SIDES = {"rotated-90", "rotated-270", "transposed", "anti-transposed"}


def turned_sensor(sensor: tuple[int, int], orientation: str) -> tuple[int, int]:
    """(width, height) of the sensor after rotation."""
    return (sensor[1], sensor[0]) if orientation in SWAP_SIDES else sensor


def turned(events: Events, sensor: tuple[int, int], orientation: str) -> Events:
    """The events of a ``sensor`` (width, height), all of them inside it, turned or mirrored.

    Args:
        orientation: ``upright`` leaves them alone; ``mirrored`` exchanges left and right, ``upside-down`` top and bottom;
            ``rotated-90`` turns clockwise; ``transposed`` exchanges rows and columns.
    """
    if orientation == "upright":
        return events
    right, bottom = np.uint16(sensor[0] - 1), np.uint16(sensor[1] - 1)
    x, y = TURNS[orientation](events.x, events.y, right, bottom)  # type: ignore[arg-type]
    return Events(x, y, events.t, events.on, turned_sensor(sensor, orientation))
