"""From events to the frames that a network sees."""

from itertools import pairwise

import numpy as np

from lsgcli.data.events import Events
from lsgcli.errors import DataError

VERSION = 1  # part of the cache's digest: raise it when the same events give other frames


def frames(
    events: Events,
    T: int,
    size: int,
    sensor: tuple[int, int],
    slicing: str = "count",
    resize: str = "bin",
    *,
    name: str = "recording",
) -> np.ndarray:
    """Count the events of T slices of a recording, per pixel and polarity.

    Args:
        T: number of slices.
        size: height and width S of a frame. A sensor that is not square is padded to one, so the aspect is kept.
        sensor: (width, height) of the sensor in pixels.
        slicing: ``count`` gives every slice the same number of events (but for one), ``time`` the same duration.
        resize: ``bin`` counts in a coarser grid, keeping the sum (a grid finer than the sensor leaves gaps); ``bilinear``
            counts at full size, then interpolates with antialias, keeping the mean; ``centre`` leaves pixels as they are, and
            cuts off or pads with zeros at the edges: the only one that drops events.
        name: what an error calls the recording.

    Returns:
        (T, 2, S, S), channel 0 ON and channel 1 OFF: uint8 counts, saturating at 255, or float16 if bilinear.

    Raises:
        DataError: no events, or events outside the sensor.
    """
    if len(events) == 0:
        raise DataError(
            f"{name}: found no events, expected at least one", hint="Record it again, or take it out of the folder."
        )
    _check_inside(events, sensor, name)
    edges = SLICINGS[slicing](events.t, T)
    return RESIZES[resize](events, edges, size, sensor)


def _check_inside(events: Events, sensor: tuple[int, int], name: str) -> None:
    width, height = sensor
    outside = (events.x >= width) | (events.y >= height)
    if outside.any():
        i = int(outside.argmax())
        raise DataError(
            f"{name}: event {i} is at x={events.x[i]}, y={events.y[i]}, expected a sensor of {width}x{height}",
            hint="Give the right --sensor WIDTHxHEIGHT, or take the recording out of the folder.",
        )


def _by_count(t: np.ndarray, T: int) -> np.ndarray:
    return np.arange(T + 1) * len(t) // T


def _by_time(t: np.ndarray, T: int) -> np.ndarray:
    # Python's integers: a span of days times T would overflow nothing either way, but garbage times might.
    start, span = int(t[0]), int(t[-1]) - int(t[0]) + 1
    borders = [start + span * k // T for k in range(T)]
    return np.append(np.searchsorted(t, borders), len(t))


def _square(sensor: tuple[int, int]) -> tuple[int, int, int]:
    """Side of the square around the sensor, and where in it the sensor's left and top edges are."""
    width, height = sensor
    side = max(width, height)
    return side, (side - width) // 2, (side - height) // 2


def _count(events: Events, edges: np.ndarray, size: int, sensor: tuple[int, int]) -> np.ndarray:
    """Counts (T, 2, S, S) in a grid of S x S, int64."""
    side, left, top = _square(sensor)
    # A table per coordinate is cheaper than the division per event.
    column = (np.arange(sensor[0]) + left) * size // side
    row = (np.arange(sensor[1]) + top) * size // side
    return _histogram(events, edges, size, column, row)


def _histogram(events: Events, edges: np.ndarray, size: int, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Counts (T, 2, S, S) of events whose pixel (x, y) goes to (column[x], row[y]), int64."""
    place = column.astype(np.int32)[events.x]
    place += (row * size).astype(np.int32)[events.y]
    place += np.array([size * size, 0], np.int32)[events.on.view(np.uint8)]
    cells = 2 * size * size
    counts = [np.bincount(place[a:b], minlength=cells) for a, b in pairwise(edges.tolist())]
    return np.stack(counts).reshape(len(counts), 2, size, size)


def _centre(events: Events, edges: np.ndarray, size: int, sensor: tuple[int, int]) -> np.ndarray:
    column, row = (np.arange(length) + (size - length) // 2 for length in sensor)
    inside = ((column >= 0) & (column < size))[events.x] & ((row >= 0) & (row < size))[events.y]
    kept = Events(events.x[inside], events.y[inside], events.t[inside], events.on[inside], events.sensor)
    edges = np.append(0, np.cumsum(inside))[edges]  # how many of those before each border are kept
    return np.minimum(_histogram(kept, edges, size, column, row), 255).astype(np.uint8)


def _bin(events: Events, edges: np.ndarray, size: int, sensor: tuple[int, int]) -> np.ndarray:
    return np.minimum(_count(events, edges, size, sensor), 255).astype(np.uint8)


def _bilinear(events: Events, edges: np.ndarray, size: int, sensor: tuple[int, int]) -> np.ndarray:
    import torch

    side = _square(sensor)[0]
    counts = torch.from_numpy(_count(events, edges, side, sensor).astype(np.float32))
    small = torch.nn.functional.interpolate(counts, (size, size), mode="bilinear", antialias=True)
    return small.clamp_(max=float(np.finfo(np.float16).max)).numpy().astype(np.float16)


SLICINGS = {"count": _by_count, "time": _by_time}
RESIZES = {"bin": _bin, "bilinear": _bilinear, "centre": _centre}
