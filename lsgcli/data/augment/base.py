"""Augmentations of frames and images.

An augmentation maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and
uniforms ``u`` of shape (B, n) to a batch of the same shape and type. The transform is the same for all timesteps and channels of a
sample. It draws no random numbers: ``u`` is a function of seed, epoch and sample, and so is the result. Augmentations use numpy, because
batches are prepared concurrently with the training step and should not use torch's threads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsgcli import registry
from lsgcli.config.fields import listed
from lsgcli.errors import ConfigError

Apply = Callable[..., np.ndarray]  # (x, u), and maybe further arguments with a default


@dataclass(frozen=True)
class Augmentation:
    """An augmentation.

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

    @property
    def name(self) -> str:
        """Name of the function, with hyphens, for messages and as name of its random stream."""
        return self.apply.__name__.replace("_", "-")

    def __call__(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map x (B, ..., H, W) and u (B, n) float64 in [0, 1) to an array like x; x is not modified."""
        return self.apply(x, u)


def augmentation(n: int, *, images_only: bool = False, late: bool = False) -> Callable[[Apply], Augmentation]:
    """Decorator that converts ``f(x, u) -> array like x`` to an :class:`Augmentation`."""
    return lambda apply: Augmentation(apply, n, images_only, late)


def chain(text: str | None, static: bool) -> tuple[Augmentation, ...]:
    """The augmentations of a setting such as ``crop,flip``, in order.

    Raises:
        ConfigError: an unknown name, or an augmentation that does not support the data.
    """
    chosen: tuple[Augmentation, ...] = tuple(registry.get("augmentation", name) for name in listed(text or "none"))
    for augmentation in chosen:
        if augmentation.images_only and not static:
            raise ConfigError(
                f"--augment: found {augmentation.name}, which requires images, but this data set contains recordings of events",
                "Try flip, roll or crop.",
            )
    return chosen
