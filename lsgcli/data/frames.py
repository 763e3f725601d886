"""Conversion of events to frames: slicing in time, counting per pixel and polarity, resizing, and conversion of values."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lsgcli.config import RunConfig
from lsgcli.data.events import Events
from lsgcli.data.resampling import RESIZES, Grid
from lsgcli.errors import DataError

MOST = 1 << 28  # pixels of all frames at the sensor's size; 10 frames of 5000 x 5000
VERSION = 3  # raise it when the same events give other frames
FULL = 255  # maximum of an integer frame


@dataclass(frozen=True)
class FrameSettings:
    """Settings of the frames, with the names of the fields of RunConfig.

    Attributes:
        T: number of slices.
        size: height and width S of a frame. A sensor that is not square is padded to a square, which keeps the aspect ratio.
        slicing: ``count``: slices with equal numbers of events (up to one); ``time``: slices of equal duration; ``window``:
            consecutive slices of length ``window_us``, without the events before and after.
        window_us: length of a window, in microseconds.
        window_start: position of the windows in the recording: ``first``, ``middle`` or ``random``.
        resize: resizing of counts to S x S, see :mod:`lsgcli.data.resampling`.
        value: ``count`` of events, ``binary``, or ``log1p`` of the count; applied before interpolation.
        normalise: divide by the maximum of each ``frame`` or of the whole ``sample``, or ``none``.
    """

    T: int
    size: int
    slicing: str = "count"
    window_us: int = 5000
    window_start: str = "first"
    resize: str = "bilinear"
    value: str = "count"
    normalise: str = "none"

    @classmethod
    def of(cls, config: RunConfig) -> "FrameSettings":
        """The settings of a run."""
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 if all values are integers, otherwise float16."""
        whole = RESIZES[self.resize].whole and self.value != "log1p" and self.normalise == "none"
        return np.dtype(np.uint8 if whole else np.float16)

    def digest(self) -> dict[str, Any]:
        """The settings with an effect on the frames, as JSON types."""
        found = asdict(self)
        if self.slicing != "window":
            del found["window_us"], found["window_start"]
        return found


def frames(
    events: Events, sensor: tuple[int, int], settings: FrameSettings, *, name: str = "recording", draw: float = 0.0
) -> np.ndarray:
    """Count the events of T slices of a recording, per pixel and polarity.

    Args:
        sensor: (width, height) of the sensor in pixels.
        name: name of the recording for errors.
        draw: position of the windows in [0, 1), for ``window_start`` ``random``.

    Returns:
        (T, 2, S, S), channel 0 ON and channel 1 OFF, of ``settings.dtype``; integers saturate at 255.

    Raises:
        DataError: no events, or events outside the sensor.
    """
    _check(events, sensor, name)
    edges = edges_of(events.t, settings, draw)
    resize = RESIZES[settings.resize]
    grid = resize.grid(sensor, settings.size)
    if settings.T * grid.height * grid.width > MOST:
        raise DataError(
            f"{name}: found a sensor of {sensor[0]}x{sensor[1]}, which requires too much memory for {settings.T} frames at full size",
            hint="Use --resize bin, or give --sensor if this size is wrong.",
        )
    if resize.crops:
        events, edges = _crop(events, edges, grid)
    found = np.empty((settings.T, 2, grid.height, grid.width), np.uint8 if settings.dtype == np.uint8 else np.float32)
    for out, counts in zip(found.reshape(settings.T, -1), _counts(_places(events, grid), edges, grid), strict=True):
        VALUES[settings.value](counts, out)
    if resize.interpolate is None:
        return _finished(found, settings)
    return _finished(resize.interpolate(found, settings.size), settings)


def edges_of(t: np.ndarray, settings: FrameSettings, draw: float = 0.0) -> list[int]:
    """T + 1 indices into times ``t`` (sorted, microseconds): slice k contains the events ``edges[k]`` to ``edges[k + 1] - 1``."""
    return SLICINGS[settings.slicing](t, settings, draw)


def _check(events: Events, sensor: tuple[int, int], name: str) -> None:
    if len(events) == 0:
        raise DataError(
            f"{name}: found no events, expected at least one", hint="Record it again, or remove it from the folder."
        )
    width, height = sensor
    if int(events.x.max()) < width and int(events.y.max()) < height:
        return
    i = int(((events.x >= width) | (events.y >= height)).argmax())
    raise DataError(
        f"{name}: event {i} is at x={events.x[i]}, y={events.y[i]}, expected a sensor of {width}x{height}",
        hint="Give the correct --sensor WIDTHxHEIGHT, or remove the recording from the folder.",
    )


def _by_count(t: np.ndarray, settings: FrameSettings, draw: float) -> list[int]:
    return [k * len(t) // settings.T for k in range(settings.T + 1)]


def _by_time(t: np.ndarray, settings: FrameSettings, draw: float) -> list[int]:
    # Python's integers: garbage times times T might overflow others.
    start, span = int(t[0]), int(t[-1]) - int(t[0]) + 1
    borders = [start + span * k // settings.T for k in range(settings.T)]
    return [*np.searchsorted(t, borders).tolist(), len(t)]


def _by_window(t: np.ndarray, settings: FrameSettings, draw: float) -> list[int]:
    length = settings.window_us
    room = max(int(t[-1]) - int(t[0]) + 1 - settings.T * length, 0)
    start = int(t[0]) + int(STARTS[settings.window_start](draw) * room)
    return [int(i) for i in np.searchsorted(t, [start + k * length for k in range(settings.T + 1)])]


def _places(events: Events, grid: Grid) -> np.ndarray:
    """(N,) of grid.dtype: the cell of each event in (2, grid.height, grid.width), ON first."""
    place = grid.rows(events.y) * grid.width
    place += grid.columns(events.x)
    place += (~events.on).view(np.uint8) * grid.dtype(grid.height * grid.width)
    return np.asarray(place)


def _counts(place: np.ndarray, edges: list[int], grid: Grid) -> Iterator[np.ndarray]:
    """Number of events per cell, (2 * grid.height * grid.width,), for each slice; the array is reused for the next slice."""
    most = max(end - start for start, end in pairwise(edges))
    # Counts that are small in memory stay in the processor's cache, which is what the time goes by.
    counts = np.zeros(2 * grid.height * grid.width, np.uint16 if most < 1 << 16 else np.uint32)
    for start, end in pairwise(edges):
        counts[:] = 0
        np.add.at(counts, place[start:end].astype(np.intp), counts.dtype.type(1))
        yield counts


def _crop(events: Events, edges: list[int], grid: Grid) -> tuple[Events, list[int]]:
    """Only the events inside the grid."""
    inside = grid.contains(events.x, events.y)
    kept = Events(events.x[inside], events.y[inside], events.t[inside], events.on[inside], events.sensor)
    return kept, np.append(0, np.cumsum(inside))[edges].tolist()  # how many of those before each border are kept


def _count(counts: np.ndarray, out: np.ndarray) -> None:
    most = FULL if out.dtype == np.uint8 else 2**24  # largest exactly representable integer range of out
    out[:] = counts if counts.max() <= most else np.minimum(counts, most)


def _binary(counts: np.ndarray, out: np.ndarray) -> None:
    out[:] = counts > 0


def _log1p(counts: np.ndarray, out: np.ndarray) -> None:
    out[:] = np.log1p(counts, dtype=np.float32)


def _finished(found: np.ndarray, settings: FrameSettings) -> np.ndarray:
    axes = NORMALISATIONS[settings.normalise]
    if axes is not None:
        most = found.max(axes, keepdims=True)
        found /= np.where(most > 0, most, 1)
    if found.dtype == settings.dtype:
        return found
    return np.minimum(found, np.finfo(np.float16).max).astype(settings.dtype)


SLICINGS: dict[str, Callable[[np.ndarray, FrameSettings, float], list[int]]] = {
    "count": _by_count,
    "time": _by_time,
    "window": _by_window,
}
STARTS: dict[str, Callable[[float], float]] = {"first": lambda u: 0.0, "middle": lambda u: 0.5, "random": lambda u: u}
VALUES: dict[str, Callable[[np.ndarray, np.ndarray], None]] = {"count": _count, "binary": _binary, "log1p": _log1p}
NORMALISATIONS: dict[str, tuple[int, ...] | None] = {"none": None, "frame": (1, 2, 3), "sample": (0, 1, 2, 3)}
