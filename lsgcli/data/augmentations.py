"""Augmentations of frames, images and recordings, composed of the transforms in :mod:`lsgcli.data.augment`."""

import math

import numpy as np

from lsgcli.data.augment import Apply, EventAugmentation, augmentation, moved, turning, warped, whole, without_square
from lsgcli.data.events import Events, in_order
from lsgcli.registry import register

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
def crop(x: np.ndarray, u: np.ndarray, pad: int = 4) -> np.ndarray:
    """Shift by up to 4 pixels along both axes, with zero padding.

    The usual augmentation for CIFAR: a random crop of the zero-padded image.
    """
    shift = whole(u, -pad, pad)
    return moved(x, shift[:, 0], shift[:, 1], pad, wrap=False)


@register("augmentation", "roll")
@augmentation(2)
def roll(x: np.ndarray, u: np.ndarray, most: int = 5) -> np.ndarray:
    """Shift by up to 5 pixels along both axes, with wrap-around.

    Source: the augmentation of CIFAR10-DVS in TET, Deng et al., ICLR 2022.
    """
    shift = whole(u, -most, most)
    return moved(x, shift[:, 0], shift[:, 1], most, wrap=True)


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
    return without_square(x, u, side)


@register("augmentation", "nda")
@augmentation(3)
def nda(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of four transforms, drawn per sample: roll by up to 5 pixels, rotate or shear by up to 30 degrees, or cut out a square of 8 pixels.

    Source: neuromorphic data augmentation, Li et al., ECCV 2022, without its flip; use ``flip,nda``.
    """
    out, choice = np.empty_like(x), whole(u[:, 0], 0, len(MOVES) - 1)
    for index, move in enumerate(MOVES):
        chosen = choice == index
        if chosen.any():
            out[chosen] = move(x[chosen], u[chosen, 1:])
    return out


def _sheared(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Shear horizontally by up to 30 degrees."""
    matrix = np.tile(np.eye(2), (len(x), 1, 1))
    matrix[:, 1, 0] = (2 * u[:, 0] - 1) * math.tan(math.radians(30))
    return warped(x, matrix)


MOVES: tuple[Apply, ...] = (roll, lambda x, u: rotate.apply(x, u, 30), _sheared, lambda x, u: cutout.apply(x, u, 8))


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
    return Events(events.x[kept], events.y[kept], events.t[kept], events.on[kept], events.sensor)


@register("augmentation", "spatial-jitter")
@EventAugmentation
def spatial_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 pixel to both coordinates of each event, inside the sensor."""
    x, y = (_jittered(place, length, rng) for place, length in zip((events.x, events.y), sensor, strict=True))
    return Events(x, y, events.t, events.on, events.sensor)


def _jittered(place: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    shifted = place + np.rint(rng.standard_normal(len(place), dtype=np.float32)).astype(np.int32)
    return np.clip(shifted, 0, length - 1).astype(np.uint16)


@register("augmentation", "time-jitter")
@EventAugmentation
def time_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 ms to the time of each event, and sort."""
    shift = rng.standard_normal(len(events), dtype=np.float32) * np.float32(1000)  # microseconds
    return in_order(events.x, events.y, events.t + np.rint(shift).astype(np.int64), events.on, events.sensor)
