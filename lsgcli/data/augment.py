"""What an augmentation is, and the moves that most of them are made of.

An augmentation maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and uniforms ``u`` of
shape (B, n) to a batch of the same shape and type. All timesteps and channels of a sample undergo the same transform. It
draws no random numbers itself: ``u`` is a function of seed, epoch and sample, so the result is too.

The arrays are numpy's: they are prepared beside the training step, and should not compete with it for torch's threads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsgcli import registry
from lsgcli.errors import ConfigError

Apply = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """A named augmentation.

    Attributes:
        n: how many uniforms a sample needs.
        images_only: cannot be applied to frames of events.
        late: comes after normalisation, so that the zeros it fills in are the mean colour rather than black.
    """

    name: str
    n: int
    apply: Apply
    images_only: bool = False
    late: bool = False

    def __call__(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map x (B, ..., H, W) and u (B, n) float64 in [0, 1) to an array like x; x is left as it is."""
        return self.apply(x, u)


def augmentation(name: str, n: int, *, images_only: bool = False, late: bool = False) -> Callable[[Apply], Augmentation]:
    """Decorate ``f(x, u) -> array like x`` to register it."""

    def decorate(apply: Apply) -> Augmentation:
        return registry.register("augmentation", name)(Augmentation(name, n, apply, images_only, late))

    return decorate


def chain(text: str | None, static: bool) -> tuple[Augmentation, ...]:
    """The augmentations of a setting such as ``crop,flip``, in that order.

    Raises:
        ConfigError: an unknown name, or one for images where the data are events.
    """
    names = [] if text in (None, "", "none") else str(text).split(",")
    found = tuple(registry.get("augmentation", name) for name in names)
    for one in found:
        if one.images_only and not static:
            raise ConfigError(
                f"--augment {one.name} is for images, and this data set has events", hint="Try flip, roll or crop."
            )
    return found


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
    found *= index >= 0
    return found.reshape(x.shape)
