"""Base of augmentations, and transforms they are composed of.

An augmentation of frames or images maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and uniforms ``u`` of
shape (B, n) to a batch of the same shape and type. The transform is the same for all timesteps and channels of a
sample. It draws no random numbers: ``u`` is a function of seed, epoch and sample, and so is the result.

Augmentations use numpy, because batches are prepared concurrently with the training step and should not use torch's threads.

An augmentation of events modifies a recording before it is sliced into frames. The cache cannot be used: each sample is read from its
file in every epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsgcli import registry
from lsgcli.data.events import Events
from lsgcli.errors import ConfigError

Apply = Callable[..., np.ndarray]  # (x, u), and maybe further arguments with a default
Change = Callable[[Events, tuple[int, int], np.random.Generator], Events]


class _Named:
    apply: Callable[..., object]

    @property
    def name(self) -> str:
        """Name of the function, with hyphens, for messages and as name of its random stream."""
        return self.apply.__name__.replace("_", "-")


@dataclass(frozen=True)
class Augmentation(_Named):
    """An augmentation of frames or images.

    Attributes:
        apply: ``f(x, u) -> array like x``.
        n: number of uniforms per sample.
        images_only: does not support frames of events.
        late: applied after normalisation, so that zeros are the mean colour rather than black.
    """

    apply: Apply
    n: int
    images_only: bool = False
    late: bool = False

    def __call__(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map x (B, ..., H, W) and u (B, n) float64 in [0, 1) to an array like x; x is not modified."""
        return self.apply(x, u)


def augmentation(n: int, *, images_only: bool = False, late: bool = False) -> Callable[[Apply], Augmentation]:
    """Decorator that converts ``f(x, u) -> array like x`` to an :class:`Augmentation`."""
    return lambda apply: Augmentation(apply, n, images_only, late)


@dataclass(frozen=True)
class EventAugmentation(_Named):
    """An augmentation of recordings; decorates ``f(events, sensor, rng) -> events``."""

    apply: Change

    def __call__(self, events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
        """Augment the events of a sensor (width, height); the result is inside the sensor and sorted by time."""
        return self.apply(events, sensor, rng)


def chain(text: str | None, static: bool) -> tuple[Augmentation | EventAugmentation, ...]:
    """The augmentations of a setting such as ``crop,flip``, in order, with those of events first.

    Raises:
        ConfigError: an unknown name, or an augmentation that does not support the data.
    """
    names = [] if text in (None, "", "none") else str(text).split(",")
    found = tuple(registry.get("augmentation", name) for name in names)
    for one in found:
        if isinstance(one, EventAugmentation):
            if static:
                raise ConfigError(
                    f"--augment: found {one.name}, which requires recordings of events, but this data set contains images",
                    hint="Try flip or crop.",
                )
        elif one.images_only and not static:
            raise ConfigError(
                f"--augment: found {one.name}, which requires images, but this data set contains recordings of events",
                hint="Try flip, roll or crop.",
            )
    return tuple(sorted(found, key=lambda one: not isinstance(one, EventAugmentation)))


def whole(u: np.ndarray, low: int, high: int) -> np.ndarray:
    """Uniform integers from low to high, inclusive; int64, with the shape of u."""
    return low + np.minimum((u * (high - low + 1)).astype(np.int64), high - low)


def moved(x: np.ndarray, down: np.ndarray, right: np.ndarray, most: int, *, wrap: bool) -> np.ndarray:
    """Shift each sample of x (B, ..., H, W) by an integer number of pixels, (B,) each, at most ``most``.

    Pixels wrap around at the edges (``wrap``), or are filled with zeros.
    """
    planes = x.reshape(len(x), -1, *x.shape[-2:])
    height, width = x.shape[-2:]
    room = ((0, 0), (0, 0), (most, most), (most, most))
    padded = np.pad(planes, room, mode="wrap") if wrap else np.pad(planes, room)
    # Windows are views; indexing one per sample copies complete rows.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return windows[np.arange(len(x)), :, most - down, most - right].reshape(x.shape)


def picked(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Pick pixels of x (B, ..., H, W) by their index in a plane, place (B, H, W) of int64; -1 gives zero."""
    planes = x.reshape(len(x), -1, x.shape[-2] * x.shape[-1])
    index = place.reshape(len(x), 1, -1)
    found = np.take_along_axis(planes, np.maximum(index, 0), axis=2)
    np.copyto(found, 0, where=index < 0)  # arithmetic would be slow on float16
    return found.reshape(x.shape)


def warped(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transform each sample of x (B, ..., H, W) by a linear map about the centre, with nearest-neighbour sampling and zero padding.

    Args:
        matrix: (B, 2, 2), maps (row, column) in the result to the position in x.
    """
    height, width = x.shape[-2:]
    row, column = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width)[None, :] - (width - 1) / 2
    m = matrix[:, :, :, None, None]
    source_row = np.rint(m[:, 0, 0] * row + m[:, 0, 1] * column + (height - 1) / 2).astype(np.int64)
    source_column = np.rint(m[:, 1, 0] * row + m[:, 1, 1] * column + (width - 1) / 2).astype(np.int64)
    outside = (source_row < 0) | (source_row >= height) | (source_column < 0) | (source_column >= width)
    return picked(x, np.where(outside, -1, source_row * width + source_column))


def turning(angle: np.ndarray) -> np.ndarray:
    """(B, 2, 2) rotation matrices for :func:`warped`, for angles (B,) in radians."""
    return np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 2, 0)


def without_square(x: np.ndarray, u: np.ndarray, side: int) -> np.ndarray:
    """x (B, ..., H, W) with a square set to zero; its centre is a random pixel from u (B, 2), so it may be partly outside."""
    rows, columns = (_within(u[:, axis], length, side) for axis, length in enumerate(x.shape[-2:]))
    keep = ~(rows[:, :, None] & columns[:, None, :])
    return np.where(keep.reshape(len(x), *[1] * (x.ndim - 3), *x.shape[-2:]), x, np.zeros((), x.dtype))


def _within(u: np.ndarray, length: int, side: int) -> np.ndarray:
    """(B, length) bool: coordinates inside the square."""
    first = whole(u, 0, length - 1)[:, None] - side // 2
    place = np.arange(length)
    return (place >= first) & (place < first + side)
