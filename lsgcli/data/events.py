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
        sensor: (width, height) in pixels, or None where the file does not tell.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    on: np.ndarray
    sensor: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.t)


def in_order(
    x: np.ndarray,
    y: np.ndarray,
    t: np.ndarray,
    on: np.ndarray,
    sensor: tuple[int, int] | None,
    *,
    scratch: bool = False,
) -> Events:
    """Events sorted by time; events of the same microsecond stay in the order in which they were written.

    Args:
        scratch: the arrays are the caller's to give away. They are sorted in place, one at a time, so that a large
            recording needs no second copy of itself: at most 26 bytes an event, these arrays included.
    """
    x, y = x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False)
    t, on = t.astype(np.int64, copy=False), on.astype(bool, copy=False)
    if len(t) < 2 or not bool((t[1:] < t[:-1]).any()):
        return Events(x, y, t, on, sensor)
    order = np.argsort(t, kind="stable")
    if not scratch:
        return Events(x[order], y[order], t[order], on[order], sensor)
    for column in (x, y, on):
        column[:] = column[order]
    t.sort(kind="stable")  # the same as t[order], without a copy of it
    return Events(x, y, t, on, sensor)


def unwrap(stamps: np.ndarray, period: int) -> np.ndarray:
    """Times of a counter that starts again from 0 every ``period``, as times that go on.

    A step of more than half the period, up or down, is the counter passing its end, forwards or (an event that comes
    late) backwards. So an event may be late by up to half a period, and no order is made up for it.

    Args:
        stamps: (N,) int64, 0 to ``period`` - 1; overwritten.

    Returns:
        (N,) int64, the same array.
    """
    if len(stamps) < 2:
        return stamps
    half = period // 2
    rising = not bool((stamps[1:] < stamps[:-1]).any())
    if rising and int(stamps[-1]) - int(stamps[0]) <= half:
        return stamps
    step = np.diff(stamps)
    wraps = (step < -half).view(np.int8) - (step > half).view(np.int8)
    del step
    if wraps.any():
        laps = np.cumsum(wraps, dtype=np.int64)
        laps *= period
        stamps[1:] += laps
    return stamps
