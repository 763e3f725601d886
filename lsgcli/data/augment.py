"""What an augmentation is, and the moves that most of them are made of.

An augmentation of frames or images maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and uniforms ``u`` of
shape (B, n) to a batch of the same shape and type. All timesteps and channels of a sample undergo the same transform. It
draws no random numbers itself: ``u`` is a function of seed, epoch and sample, so the result is too.

The arrays are numpy's: they are prepared beside the training step, and should not compete with it for torch's threads.

An augmentation of events changes a recording before it is cut into frames. It cannot come from the cache: each sample is read
from its file again in every epoch.
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
        """The function's, with hyphens: what messages say, and what keeps its random numbers from those of others."""
        return self.apply.__name__.replace("_", "-")


@dataclass(frozen=True)
class Augmentation(_Named):
    """An augmentation of frames or images.

    Attributes:
        apply: ``f(x, u) -> array like x``.
        n: how many uniforms a sample needs.
        images_only: cannot be applied to frames of events.
        late: comes after normalisation, so that the zeros it fills in are the mean colour rather than black.
    """

    apply: Apply
    n: int
    images_only: bool = False
    late: bool = False

    def __call__(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map x (B, ..., H, W) and u (B, n) float64 in [0, 1) to an array like x; x is left as it is."""
        return self.apply(x, u)


def augmentation(n: int, *, images_only: bool = False, late: bool = False) -> Callable[[Apply], Augmentation]:
    """Decorate ``f(x, u) -> array like x`` to make an :class:`Augmentation` of it."""
    return lambda apply: Augmentation(apply, n, images_only, late)


@dataclass(frozen=True)
class EventAugmentation(_Named):
    """An augmentation of recordings; decorates ``f(events, sensor, rng) -> events``."""

    apply: Change

    def __call__(self, events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
        """Change the events of a sensor (width, height); what is given back lies inside it, in order of time."""
        return self.apply(events, sensor, rng)


def chain(text: str | None, static: bool) -> tuple[Augmentation | EventAugmentation, ...]:
    """The augmentations of a setting such as ``crop,flip``, in that order; those of events always come first.

    Raises:
        ConfigError: an unknown name, one for images where the data are events, or the other way round.
    """
    names = [] if text in (None, "", "none") else str(text).split(",")
    found = tuple(registry.get("augmentation", name) for name in names)
    for one in found:
        if isinstance(one, EventAugmentation):
            if static:
                raise ConfigError(
                    f"--augment {one.name} is for recordings of events, and this data set has images",
                    hint="Try flip or crop.",
                )
        elif one.images_only and not static:
            raise ConfigError(
                f"--augment {one.name} is for images, and this data set has events", hint="Try flip, roll or crop."
            )
    return tuple(sorted(found, key=lambda one: not isinstance(one, EventAugmentation)))


def whole(u: np.ndarray, low: int, high: int) -> np.ndarray:
    """Whole numbers from low to high, both included, equally likely; int64, the shape of u."""
    return low + np.minimum((u * (high - low + 1)).astype(np.int64), high - low)


def moved(x: np.ndarray, down: np.ndarray, right: np.ndarray, most: int, *, wrap: bool) -> np.ndarray:
    """Move each sample of x (B, ..., H, W) by its own whole number of pixels, at most ``most``, both (B,).

    What leaves at an edge comes in at the other one (``wrap``), or zeros do.
    """
    planes = x.reshape(len(x), -1, *x.shape[-2:])
    height, width = x.shape[-2:]
    room = ((0, 0), (0, 0), (most, most), (most, most))
    padded = np.pad(planes, room, mode="wrap") if wrap else np.pad(planes, room)
    # Every position of the window is a view; picking one per sample copies whole rows.
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
    """Map each sample of x (B, ..., H, W) by its own linear map about the centre, nearest pixel; zeros come in from outside.

    Args:
        matrix: (B, 2, 2), from a pixel's (row, column) in the result to where in x it comes from.
    """
    height, width = x.shape[-2:]
    row, column = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width)[None, :] - (width - 1) / 2
    m = matrix[:, :, :, None, None]
    source_row = np.rint(m[:, 0, 0] * row + m[:, 0, 1] * column + (height - 1) / 2).astype(np.int64)
    source_column = np.rint(m[:, 1, 0] * row + m[:, 1, 1] * column + (width - 1) / 2).astype(np.int64)
    outside = (source_row < 0) | (source_row >= height) | (source_column < 0) | (source_column >= width)
    return picked(x, np.where(outside, -1, source_row * width + source_column))


def turning(angle: np.ndarray) -> np.ndarray:
    """(B, 2, 2) for :func:`warped`: turns by angles (B,), in radians."""
    return np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 2, 0)


def without_square(x: np.ndarray, u: np.ndarray, side: int) -> np.ndarray:
    """x (B, ..., H, W) with zeros in a square; its centre is any pixel, drawn by u (B, 2), so part of it may lie outside."""
    rows, columns = (_within(u[:, axis], length, side) for axis, length in enumerate(x.shape[-2:]))
    keep = ~(rows[:, :, None] & columns[:, None, :])
    return np.where(keep.reshape(len(x), *[1] * (x.ndim - 3), *x.shape[-2:]), x, np.zeros((), x.dtype))


def _within(u: np.ndarray, length: int, side: int) -> np.ndarray:
    """(B, length) bool: which coordinates the square covers."""
    first = whole(u, 0, length - 1)[:, None] - side // 2
    place = np.arange(length)
    return (place >= first) & (place < first + side)
