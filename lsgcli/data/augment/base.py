"""Augmentations of frames, images and recordings.

An augmentation of frames or images maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and
uniforms ``u`` of shape (B, n) to a batch of the same shape and type. The transform is the same for all timesteps and channels of a
sample. It draws no random numbers: ``u`` is a function of seed, epoch and sample, and so is the result. Augmentations use numpy, because
batches are prepared concurrently with the training step and should not use torch's threads.

An augmentation of events modifies a recording before it is sliced into frames. The cache cannot be used: each sample is read from its
file in every epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsgcli import registry
from lsgcli.config.fields import listed
from lsgcli.data.events import Events
from lsgcli.errors import ConfigError

Apply = Callable[..., np.ndarray]  # (x, u), and maybe further arguments with a default


class Named:
    """Base of both kinds of augmentations."""

    apply: Callable[..., object]

    @property
    def name(self) -> str:
        """Name of the function, with hyphens, for messages and as name of its random stream."""
        return self.apply.__name__.replace("_", "-")


@dataclass(frozen=True)
class Augmentation(Named):
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
class EventAugmentation(Named):
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
    chosen = tuple(registry.get("augmentation", name) for name in listed(text or "none"))
    for augmentation in chosen:
        of_events = isinstance(augmentation, EventAugmentation)
        if static and of_events:
            raise ConfigError(
                f"--augment: found {augmentation.name}, which requires recordings of events, but this data set contains images",
                hint="Try flip or crop.",
            )
        if not static and not of_events and augmentation.images_only:
            raise ConfigError(
                f"--augment: found {augmentation.name}, which requires images, but this data set contains recordings of events",
                hint="Try flip, roll or crop.",
            )
    return tuple(sorted(chosen, key=lambda augmentation: not isinstance(augmentation, EventAugmentation)))
