"""Conversion of events to frames: slicing in time, counting per pixel and polarity, resizing, and conversion of values.

Events are counted in a :class:`Grid`; if that is not S x S, the counts are interpolated by products with two small matrices, which is
fast and does not require torch in worker processes.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lsgcli.config.data import DataConfig
from lsgcli.data.events import Events, Sensor
from lsgcli.data.guard import foreign
from lsgcli.data.readers.base import check_inside
from lsgcli.errors import DataError, log
from lsgcli.system.schema import Record

MOST = 1 << 28  # pixels of all frames at the sensor's size; 10 frames of 5000 x 5000
VERSION = 3  # raise it when the same events give other frames
ADVICE = "use --value log1p, a larger --size or -T, or --resize bilinear"  # against saturation
SETTINGS = {"T", "size", "slicing", "window_us", "window_start", "resize", "value", "normalise"}  # that frames depend on
FULL, FLOATS = 255, 1 << 24  # maximum of an integer frame; float32 represents all integers up to it


def dtype_of(settings: DataConfig) -> np.dtype[Any]:
    """Data type of frames: uint8 if all values are integers, otherwise float16."""
    whole = RESIZES[settings.resize].weights is None and settings.value != "log1p" and settings.normalise == "none"
    return np.dtype(np.uint8 if whole else np.float16)


def preparation(settings: DataConfig) -> Record:
    """The settings with an effect on frames, as JSON types."""
    return {
        name: getattr(settings, name) for name in SETTINGS if settings.slicing == "window" or not name.startswith("window_")
    }


def frames(events: Events, sensor: Sensor, settings: DataConfig, *, name: str = "recording", draw: float = 0.0) -> np.ndarray:
    """Count the events of T slices of a recording, per pixel and polarity.

    Args:
        sensor: (width, height) of the sensor in pixels. One that is not square is padded to a square, which keeps the aspect ratio.
        settings: slicing in time, resizing, and conversion of values, which precedes interpolation.
        name: name of the recording for errors.
        draw: position of the windows in [0, 1), for ``window_start`` ``random``.

    Returns:
        (T, 2, S, S), channel 0 ON and channel 1 OFF, of :func:`dtype_of` the settings; integers saturate at 255.

    Raises:
        DataError: no events, or events outside the sensor.
    """
    if not len(events):
        hint = "Record it again, or remove it from the folder."
        raise DataError(f"{name}: found no events, expected at least one", hint)
    if events.sensor != sensor:  # otherwise they were checked when they were read
        with foreign(name, "events inside the sensor"):
            check_inside(events, sensor)
    edges = SLICINGS[settings.slicing](events.t, settings, draw)
    resize = RESIZES[settings.resize]
    grid = resize.grid(sensor, settings.size)
    if settings.T * grid.height * grid.width > MOST:
        raise DataError(
            f"{name}: found a sensor of {sensor[0]}x{sensor[1]}, which requires too much memory for {settings.T} frames at full size",
            "Use --resize bin, or give --sensor if this size is wrong.",
        )
    if min(grid.left, grid.top) < 0:
        inside = grid.contains(events)
        events = events[inside]
        edges = np.append(0, np.cumsum(inside))[edges].tolist()
    dtype = dtype_of(settings)
    made = np.empty((settings.T, 2, grid.height, grid.width), np.uint8 if dtype == np.uint8 else np.float32)
    most = max(end - start for start, end in pairwise(edges))
    # Counts that are small in memory stay in the processor's cache, which determines the speed.
    counts = np.zeros(made[0].size, np.uint16 if most < 1 << 16 else np.uint32)
    cells = grid.cells(events)
    for (start, end), frame in zip(pairwise(edges), made.reshape(settings.T, -1), strict=True):
        counts[:] = 0
        np.add.at(counts, cells[start:end].astype(np.intp), counts.dtype.type(1))
        frame[:] = VALUES[settings.value](counts, FULL if frame.dtype == np.uint8 else FLOATS)
    if made.shape[-1] != settings.size:
        made = _interpolated(made, settings.size, resize)
    if axes := AXES.get(settings.normalise):
        largest = made.max(axes, keepdims=True)
        made /= np.where(largest > 0, largest, 1)
    if made.dtype == dtype:
        return made
    return np.minimum(made, np.finfo(np.float16).max).astype(dtype)


# ---- slicing ----


def _by_count(t: np.ndarray, settings: DataConfig, draw: float) -> list[int]:
    return [k * len(t) // settings.T for k in range(settings.T + 1)]


def _by_time(t: np.ndarray, settings: DataConfig, draw: float) -> list[int]:
    # Python's integers: garbage times times T might overflow others.
    start = int(t[0])
    span = int(t[-1]) - int(t[0]) + 1
    borders = [start + span * k // settings.T for k in range(settings.T)]
    return [*np.searchsorted(t, borders).tolist(), len(t)]


def _by_window(t: np.ndarray, settings: DataConfig, draw: float) -> list[int]:
    length = settings.window_us
    room = max(int(t[-1]) - int(t[0]) + 1 - settings.T * length, 0)
    start = int(t[0]) + int({"first": 0.0, "middle": 0.5, "random": draw}[settings.window_start] * room)
    return [int(i) for i in np.searchsorted(t, [start + k * length for k in range(settings.T + 1)])]


# Slicing -> T + 1 indices into times t (sorted, microseconds): slice k contains the events edges[k] to edges[k + 1] - 1.
SLICINGS = {"count": _by_count, "time": _by_time, "window": _by_window}


# Value -> values of (counts, the largest that can be stored).
VALUES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "count": lambda counts, most: counts if counts.max() <= most else np.minimum(counts, most),
    "binary": lambda counts, most: counts > 0,
    "log1p": lambda counts, most: np.log1p(counts, dtype=np.float32),
}
AXES = {"frame": (1, 2, 3), "sample": (0, 1, 2, 3)}  # of the maximum by which values are normalised


# ---- resizing: from sensor pixels to S x S pixels, or to 1 x S for a sensor with one row ----


class Grid(NamedTuple):
    """Grid in which events are counted: pixel x belongs to column (x + left) * width // side, and y to a row likewise.

    Attributes:
        height, width: size of the grid.
        side: side of the square that the sensor is padded to, in sensor pixels.
        left, top: position of the sensor in that square; negative if it is cropped.
    """

    height: int
    width: int
    side: int
    left: int
    top: int

    def cells(self, events: Events) -> np.ndarray:
        """(N,): index of the cell of each event in (2, height, width), ON first, of the smallest sufficient integer type."""
        largest = max(2 * self.height * self.width, self.side * max(self.height, self.width))  # also of intermediate results
        kind = np.uint16 if largest <= 1 << 16 and min(self.left, self.top) >= 0 else np.int32
        cell = self._scaled(events.y.astype(kind, copy=False), self.top, self.height) * self.width
        cell += self._scaled(events.x.astype(kind, copy=False), self.left, self.width)
        cell += (~events.on).view(np.uint8) * kind(self.height * self.width)
        return np.asarray(cell)

    def _scaled(self, place: np.ndarray, shift: int, length: int) -> np.ndarray:
        if shift:
            place = place + shift
        if length != self.side:
            place = place * length
            place //= self.side
        return place

    def contains(self, events: Events) -> np.ndarray:
        """(N,) bool: whether each event is inside the grid, for grids without scaling."""
        x = events.x
        y = events.y
        return (x >= -self.left) & (x < self.width - self.left) & (y >= -self.top) & (y < self.height - self.top)


def saturated(made: np.ndarray) -> int:
    """Number of values at the maximum of integer frames; 0 for other types, which have none."""
    return int(np.count_nonzero(made == FULL)) if made.dtype == np.uint8 else 0


def warn_saturated(where: str, values: tuple[int, int], recordings: tuple[int, int], advice: str = ADVICE) -> None:
    """Warn about saturated frames.

    Args:
        values, recordings: numbers of those that saturate, and of all.
    """
    log.warning(
        "%s: %s of %s values, in %s of %s recordings, saturate at %d, so events may be lost; %s",
        where,
        *(f"{number:,}" for number in (*values, *recordings)),
        FULL,
        advice,
    )


def frame_shape(sensor: Sensor, size: int) -> tuple[int, int]:
    """Height and width of a frame."""
    return (1 if sensor[1] == 1 else size), size


def _coarse(sensor: Sensor, size: int) -> Grid:
    width, height = sensor
    side = max(sensor)
    return Grid(*frame_shape(sensor, size), side, (side - width) // 2, 0 if height == 1 else (side - height) // 2)


def _full(sensor: Sensor, size: int) -> Grid:
    return _coarse(sensor, max(sensor))


def _centre(sensor: Sensor, size: int) -> Grid:
    rows, columns = frame_shape(sensor, size)
    return Grid(rows, columns, columns, (columns - sensor[0]) // 2, (rows - sensor[1]) // 2)


@cache
def triangle(size: int, source: int) -> np.ndarray:
    """(size, source) float32: linear interpolation along one axis, with repeated edges and aligned pixel centres."""
    place = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(source)))
    return np.asarray(weights.astype(np.float32))


@cache
def antialiased(size: int, source: int) -> np.ndarray:
    """(size, source) float32: as :func:`triangle`, with antialiasing: the triangle is widened by the scale when shrinking."""
    scale = source / size
    centre = (np.arange(size) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(source)) / max(scale, 1.0))
    return np.asarray((weights / weights.sum(1, keepdims=True)).astype(np.float32))


class Resize(NamedTuple):
    """A resizing method."""

    grid: Callable[[Sensor, int], Grid]  # for counting
    weights: Callable[[int, int], np.ndarray] | None = (
        None  # of interpolation; otherwise the nearest, and counts remain integers
    )


RESIZES = {
    "bilinear": Resize(_full, antialiased),
    "bilinear-aliased": Resize(_full, triangle),
    "nearest": Resize(_full),
    "bin": Resize(_coarse),
    "centre": Resize(_centre),
}


def _interpolated(x: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    """(..., H, W) as (..., S, S), or (..., 1, W) as (..., 1, S)."""
    line = x.shape[-2] == 1
    if resize.weights is None:
        pick = np.arange(size) * x.shape[-1] // size
        return np.ascontiguousarray(x[..., pick] if line else x[..., pick[:, None], pick])
    table = resize.weights(size, x.shape[-1])
    narrow = x @ table.T
    return np.asarray(narrow if line else table @ narrow)
