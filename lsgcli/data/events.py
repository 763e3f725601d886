"""A recording of an event camera, as arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """N events in order of time.

    Attributes:
        x: (N,) column, uint16, 0 at the left.
        y: (N,) row, uint16, 0 at the top.
        t: (N,) time in microseconds, int64, not falling.
        on: (N,) bool, True where the light grew brighter.
        sensor: (width, height) in pixels, or None where the file does not state it.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    on: np.ndarray
    sensor: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.t)


def in_order(x: np.ndarray, y: np.ndarray, t: np.ndarray, on: np.ndarray, sensor: tuple[int, int] | None) -> Events:
    """Events sorted by time; events of the same microsecond stay in the order in which they were written."""
    x, y = x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False)
    t, on = t.astype(np.int64, copy=False), on.astype(bool, copy=False)
    if not bool((t[1:] < t[:-1]).any()):
        return Events(x, y, t, on, sensor)
    order = np.argsort(t, kind="stable")
    return Events(x[order], y[order], t[order], on[order], sensor)
