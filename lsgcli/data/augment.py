"""Augmentations of frames, images and recordings.

An augmentation of frames or images maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and
uniforms ``u`` of shape (B, n) to a batch of the same shape and type. The transform is the same for all timesteps and channels of a
sample. It draws no random numbers: ``u`` is a function of seed, epoch and sample, and so is the result. Augmentations use numpy, because
batches are prepared concurrently with the training step and should not use torch's threads.

An augmentation of events modifies a recording before it is sliced into frames. The cache cannot be used: each sample is read from its
file in every epoch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lsgcli import registry
from lsgcli.data.events import Events, in_order
from lsgcli.errors import ConfigError
from lsgcli.registry import register

Apply = Callable[..., np.ndarray]  # (x, u), and maybe further arguments with a default


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

    apply: Callable[[Events, tuple[int, int], np.random.Generator], Events]

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
        of_events = isinstance(one, EventAugmentation)
        if static and of_events:
            raise ConfigError(
                f"--augment: found {one.name}, which requires recordings of events, but this data set contains images",
                hint="Try flip or crop.",
            )
        if not static and not of_events and one.images_only:
            raise ConfigError(
                f"--augment: found {one.name}, which requires images, but this data set contains recordings of events",
                hint="Try flip, roll or crop.",
            )
    return tuple(sorted(found, key=lambda one: not isinstance(one, EventAugmentation)))


# ---- transforms ----


def whole(u: np.ndarray, low: int, high: int) -> np.ndarray:
    """Uniform integers from low to high, inclusive; int64, with the shape of u."""
    return low + np.minimum((u * (high - low + 1)).astype(np.int64), high - low)


def moved(x: np.ndarray, u: np.ndarray, most: int, mode: str) -> np.ndarray:
    """Shift each sample of x (B, ..., H, W) by up to ``most`` pixels along both axes, from u (B, 2).

    ``mode`` of numpy.pad, ``wrap`` or ``constant``, gives the pixels from outside.
    """
    down, right = whole(u, -most, most).T
    planes = x.reshape(len(x), -1, *x.shape[-2:])
    padded = np.pad(planes, ((0, 0), (0, 0), (most, most), (most, most)), mode)  # type: ignore[call-overload]
    # Windows are views; indexing one per sample copies complete rows.
    windows = np.lib.stride_tricks.sliding_window_view(padded, x.shape[-2:], axis=(2, 3))
    return np.asarray(windows[np.arange(len(x)), :, most - down, most - right].reshape(x.shape))


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
    index = np.where(outside, 0, source_row * width + source_column).reshape(len(x), 1, -1)
    found = np.take_along_axis(x.reshape(len(x), -1, height * width), index, axis=2)
    np.copyto(found, 0, where=outside.reshape(index.shape))  # arithmetic would be slow on float16
    return found.reshape(x.shape)


def turning(angle: np.ndarray) -> np.ndarray:
    """(B, 2, 2) rotation matrices for :func:`warped`, for angles (B,) in radians."""
    return np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 2, 0)


# ---- frames and images ----


@register("augmentation", "flip")
@augmentation(1)
def flip(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Flip horizontally with probability 0.5."""
    chosen = u[:, 0] < 0.5
    flipped = x.copy()
    flipped[chosen] = x[chosen][..., ::-1]
    return flipped


@register("augmentation", "crop")
@augmentation(2)
def crop(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Shift by up to 4 pixels along both axes, with zero padding.

    The usual augmentation for CIFAR: a random crop of the zero-padded image.
    """
    return moved(x, u, 4, "constant")


@register("augmentation", "roll")
@augmentation(2)
def roll(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Shift by up to 5 pixels along both axes, with wrap-around.

    Source: the augmentation of CIFAR10-DVS in TET, Deng et al., ICLR 2022.
    """
    return moved(x, u, 5, "wrap")


@register("augmentation", "rotate")
@augmentation(1)
def rotate(x: np.ndarray, u: np.ndarray, degrees: float = 15) -> np.ndarray:
    """Rotate about the centre by up to 15 degrees, with nearest-neighbour sampling and zero padding.

    Useful for handwriting, which varies in slant.
    """
    return warped(x, turning((2 * u[:, 0] - 1) * math.radians(degrees)))


@register("augmentation", "cutout")
@augmentation(2, late=True)
def cutout(x: np.ndarray, u: np.ndarray, side: int = 16) -> np.ndarray:
    """Set a square of 16 pixels to the mean; its centre is a random pixel, so it may be partly outside.

    Source: DeVries and Taylor, 2017, arXiv:1708.04552.
    """
    inside = []
    for axis, length in enumerate(x.shape[-2:]):
        offset = np.arange(length) - (whole(u[:, axis], 0, length - 1)[:, None] - side // 2)
        inside.append((offset >= 0) & (offset < side))
    keep = ~(inside[0][:, :, None] & inside[1][:, None, :])
    return np.where(keep.reshape(len(x), *[1] * (x.ndim - 3), *x.shape[-2:]), x, np.zeros((), x.dtype))


@register("augmentation", "nda")
@augmentation(3)
def nda(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of four transforms, drawn per sample: roll by up to 5 pixels, rotate or shear by up to 30 degrees, or cut out a square of 8 pixels.

    Source: neuromorphic data augmentation, Li et al., ECCV 2022, without its flip; use ``flip,nda``.
    """
    moves: tuple[Apply, ...] = (roll, lambda x, u: rotate.apply(x, u, 30), _sheared, lambda x, u: cutout.apply(x, u, 8))
    out, choice = np.empty_like(x), whole(u[:, 0], 0, len(moves) - 1)
    for index, move in enumerate(moves):
        chosen = choice == index
        if chosen.any():
            out[chosen] = move(x[chosen], u[chosen, 1:])
    return out


def _sheared(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Shear horizontally by up to 30 degrees."""
    matrix = np.tile(np.eye(2), (len(x), 1, 1))
    matrix[:, 1, 0] = (2 * u[:, 0] - 1) * math.tan(math.radians(30))
    return warped(x, matrix)


@register("augmentation", "autoaugment")
@augmentation(5, images_only=True)
def autoaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Two colour or shape operations of one of 25 sub-policies; x is (B, C, H, W) of uint8, C 1 or 3.

    Source: the policy for CIFAR-10 of Cubuk et al., CVPR 2019, as torchvision implements it.
    """
    return np.stack([_autoaugmented(image, draws) for image, draws in zip(x, u, strict=True)])


def _autoaugmented(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    import torch
    from PIL import Image
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    def draw(policies: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        """A policy, two probabilities and two signs."""
        return int(whole(u[0], 0, policies - 1)), torch.from_numpy(u[1:3]), torch.from_numpy(whole(u[3:5], 0, 1))

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    # Replaces the draws of the class, which use torch's global generator, shared by all threads.
    policy.get_params = draw
    augmented = np.asarray(policy(Image.fromarray(image.transpose(1, 2, 0).squeeze())))
    return augmented.reshape(*image.shape[1:], -1).transpose(2, 0, 1)


# ---- recordings ----


@register("augmentation", "drop-events")
@EventAugmentation
def drop_events(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Drop each event with the same probability, drawn per sample from 0 to 0.5. At least one event is kept.

    Source: the random drop of EventDrop, Gu et al., IJCAI 2021.
    """
    kept = rng.random(len(events), dtype=np.float32) >= rng.uniform(0, 0.5)
    kept[int(rng.integers(len(events)))] = True
    return events[kept]


@register("augmentation", "spatial-jitter")
@EventAugmentation
def spatial_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 pixel to both coordinates of each event, inside the sensor."""

    def jittered(place: np.ndarray, length: int) -> np.ndarray:
        shifted = place + np.rint(rng.standard_normal(len(place), dtype=np.float32)).astype(np.int32)
        return np.clip(shifted, 0, length - 1).astype(np.uint16)

    return replace(events, x=jittered(events.x, sensor[0]), y=jittered(events.y, sensor[1]))


@register("augmentation", "time-jitter")
@EventAugmentation
def time_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 ms to the time of each event, and sort."""
    shift = rng.standard_normal(len(events), dtype=np.float32) * np.float32(1000)  # microseconds
    return in_order(events.x, events.y, events.t + np.rint(shift).astype(np.int64), events.on, events.sensor)
