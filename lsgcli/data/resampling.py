"""Resizing from sensor pixels to S x S pixels, or to 1 x S for a sensor with one row.

Events are counted in a :class:`Grid`; if that is not S x S, the counts are interpolated by products with two small matrices, which is
fast and does not require torch in worker processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Sensor = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Grid:
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

    @property
    def dtype(self) -> type[np.integer[Any]]:
        """Smallest integer type for cell indices in (2, height, width), including intermediate results."""
        largest = max(2 * self.height * self.width, self.side * max(self.height, self.width))
        return np.uint16 if largest <= 1 << 16 and min(self.left, self.top) >= 0 else np.int32

    def columns(self, x: np.ndarray) -> np.ndarray:
        """(N,) of ``dtype``; x itself if unchanged."""
        return _scaled(x.astype(self.dtype, copy=False), self.left, self.width, self.side)

    def rows(self, y: np.ndarray) -> np.ndarray:
        """(N,) of ``dtype``; y itself if unchanged."""
        return _scaled(y.astype(self.dtype, copy=False), self.top, self.height, self.side)

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N,) bool: whether each event is inside the grid, for grids without scaling."""
        return (x >= -self.left) & (x < self.width - self.left) & (y >= -self.top) & (y < self.height - self.top)


def _scaled(place: np.ndarray, shift: int, length: int, side: int) -> np.ndarray:
    if shift:
        place = place + shift
    if length != side:
        place = place * length
        place //= side
    return place


def shape(sensor: Sensor, size: int) -> tuple[int, int]:
    """Height and width of a frame."""
    return (1 if sensor[1] == 1 else size), size


def _square(sensor: Sensor) -> tuple[int, int, int]:
    """Side of the square around the sensor, and position of the sensor in it."""
    width, height = sensor
    side = max(width, height)
    return side, (side - width) // 2, 0 if height == 1 else (side - height) // 2


def _coarse(sensor: Sensor, size: int) -> Grid:
    return Grid(*shape(sensor, size), *_square(sensor))


def _full(sensor: Sensor, size: int) -> Grid:
    square = _square(sensor)
    return Grid(*shape(sensor, square[0]), *square)


def _middle(sensor: Sensor, size: int) -> Grid:
    width, height = sensor
    rows, columns = shape(sensor, size)
    return Grid(rows, columns, columns, (columns - width) // 2, (rows - height) // 2)


def _weighted(weights: Callable[[int, int], np.ndarray]) -> Callable[[np.ndarray, int], np.ndarray]:
    def interpolate(x: np.ndarray, size: int) -> np.ndarray:
        if x.shape[-1] == size:
            return x
        table = weights(size, x.shape[-1])
        found = x @ table.T
        return np.asarray(table @ found if x.shape[-2] > 1 else found)

    return interpolate


@lru_cache(maxsize=8)
def triangle(size: int, source: int) -> np.ndarray:
    """(size, source) float32: linear interpolation along one axis, with repeated edges and aligned pixel centres."""
    place = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(source)))
    return np.asarray(weights.astype(np.float32))


@lru_cache(maxsize=8)
def antialiased(size: int, source: int) -> np.ndarray:
    """(size, source) float32: as :func:`triangle`, with antialiasing: the triangle is widened by the scale when shrinking."""
    scale = source / size
    centre = (np.arange(size) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(source)) / max(scale, 1.0))
    return np.asarray((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def _nearest(x: np.ndarray, size: int) -> np.ndarray:
    pick = np.arange(size) * x.shape[-1] // size
    return np.ascontiguousarray(x[..., pick[:, None], pick] if x.shape[-2] > 1 else x[..., pick])


@dataclass(frozen=True)
class Resize:
    """A resizing method.

    Attributes:
        grid: (sensor, S) -> grid for counting.
        interpolate: (..., H, W) and S -> (..., S, S), if the grid is not S x S.
        whole: counts remain integers.
        crops: events outside the grid are dropped.
    """

    grid: Callable[[Sensor, int], Grid]
    interpolate: Callable[[np.ndarray, int], np.ndarray] | None = None
    whole: bool = True
    crops: bool = False


RESIZES = {
    "bilinear": Resize(_full, _weighted(antialiased), whole=False),
    "bilinear-aliased": Resize(_full, _weighted(triangle), whole=False),
    "nearest": Resize(_full, _nearest),
    "bin": Resize(_coarse),
    "centre": Resize(_middle, crops=True),
}
