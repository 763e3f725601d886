"""Event-camera recordings as arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """N events in order of time.

    Attributes:
        x: (N,) column, uint16, 0 at the left.
        y: (N,) row, uint16, 0 at the top.
        t: (N,) time in microseconds, int64, non-decreasing.
        on: (N,) bool, True for an increase of brightness.
        sensor: (width, height) in pixels, or None if the file does not state it.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    on: np.ndarray
    sensor: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.t)


def in_order(x: np.ndarray, y: np.ndarray, t: np.ndarray, on: np.ndarray, sensor: tuple[int, int] | None) -> Events:
    """Events sorted by time (stable, so events with equal times keep their order)."""
    x, y = x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False)
    t, on = t.astype(np.int64, copy=False), on.astype(bool, copy=False)
    if not bool((t[1:] < t[:-1]).any()):
        return Events(x, y, t, on, sensor)
    order = np.argsort(t, kind="stable")
    return Events(x[order], y[order], t[order], on[order], sensor)
