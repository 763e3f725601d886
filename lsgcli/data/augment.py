"""Augmentations of frames and images.

An augmentation maps a batch ``x`` of shape (B, ..., H, W), images (B, C, H, W) or frames (B, T, C, H, W), and
uniforms ``u`` of shape (B, n) to a batch of the same shape and type. The transform is the same for all timesteps and channels of a
sample. It draws no random numbers: ``u`` is a function of seed, epoch and sample, and so is the result. Augmentations use numpy, because
batches are prepared concurrently with the training step and should not use torch's threads.
"""

import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lsgcli import registry
from lsgcli.config.fields import listed
from lsgcli.errors import ConfigError
from lsgcli.registry import register

if TYPE_CHECKING:
    from PIL.Image import Image

Apply = Callable[..., np.ndarray]  # (x, u), and maybe further arguments with a default


class Augmentation(NamedTuple):
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


def augmentation(n: int, **attributes: bool) -> Callable[[Apply], Augmentation]:
    """Decorator that converts ``f(x, u) -> array like x`` to an :class:`Augmentation`, with further attributes."""
    return lambda apply: Augmentation(apply, n, **attributes)


def chain(text: str | None, static: bool) -> list[Augmentation]:
    """The augmentations of a setting such as ``crop,flip``, in order.

    Raises:
        ConfigError: an unknown name, or an augmentation that does not support the data.
    """
    chosen: list[Augmentation] = [registry.get("augmentation", name) for name in listed(text or "none")]
    for augmentation in chosen:
        if augmentation.images_only and not static:
            raise ConfigError(
                f"--augment: found {augmentation.name}, which requires images, but this data set contains recordings of events",
                "Try flip, roll or crop.",
            )
    return chosen


# ---- transforms ----


def whole(u: np.ndarray, low: int, high: int | np.ndarray) -> np.ndarray:
    """Uniform integers from low to high, inclusive; int64, with the shape of u."""
    return low + np.minimum((u * (high - low + 1)).astype(np.int64), high - low)


def moved(x: np.ndarray, shift: np.ndarray, most: int, mode: str) -> np.ndarray:
    """Shift each sample of x (B, ..., H, W) by ``shift`` (B, 2) pixels downwards and to the right, at most ``most`` each.

    ``mode`` of numpy.pad, ``wrap`` or ``constant``, gives the pixels from outside.
    """
    down, right = shift.T
    planes = x.reshape(len(x), -1, *x.shape[-2:])
    padded = np.pad(planes, ((0, 0), (0, 0), (most, most), (most, most)), mode)  # type: ignore[call-overload]
    # Windows are views; indexing one per sample copies complete rows.
    windows = sliding_window_view(padded, x.shape[-2:], axis=(2, 3))
    return np.asarray(windows[np.arange(len(x)), :, most - down, most - right].reshape(x.shape))


def warped(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transform each sample of x (B, ..., H, W) by a linear map about the centre, with nearest-neighbour sampling and zero padding.

    Args:
        matrix: (B, 2, 2), maps (row, column) in the result to the position in x.
    """
    height, width = x.shape[-2:]
    middle = (height - 1) / 2
    centre = (width - 1) / 2
    row = np.arange(height)[:, None] - middle
    column = np.arange(width) - centre
    m = matrix[:, :, :, None, None]
    source_row = np.rint(m[:, 0, 0] * row + m[:, 0, 1] * column + middle).astype(np.int64)
    source_column = np.rint(m[:, 1, 0] * row + m[:, 1, 1] * column + centre).astype(np.int64)
    outside = (source_row < 0) | (source_row >= height) | (source_column < 0) | (source_column >= width)
    index = np.where(outside, 0, source_row * width + source_column).reshape(len(x), 1, -1)
    found = np.take_along_axis(x.reshape(len(x), -1, height * width), index, axis=2)
    np.copyto(found, 0, where=outside.reshape(index.shape))  # arithmetic would be slow on float16
    return found.reshape(x.shape)


def turning(angle: np.ndarray) -> np.ndarray:
    """(B, 2, 2) rotation matrices for :func:`warped`, for angles (B,) in radians."""
    return np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 2, 0)


def sheared(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Shear each sample horizontally, by the tangents (B,) of the angles."""
    matrix = np.tile(np.eye(2), (len(x), 1, 1))
    matrix[:, 1, 0] = slope
    return warped(x, matrix)


def boxes(
    u: np.ndarray, size: tuple[int, ...], area: tuple[float, float], ratio: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """First rows and columns (B, 2), and heights and widths (B, 2), of boxes inside images of ``size`` (H, W), from u (B, 4).

    The area is uniform in the range ``area``, as a fraction of the image, the logarithm of height / width in that of ``ratio``.
    """
    pixels = (area[0] + (area[1] - area[0]) * u[:, 0]) * size[0] * size[1]
    shape = np.exp(np.log(ratio[0]) + np.log(ratio[1] / ratio[0]) * u[:, 1])
    sides = np.rint(np.stack([np.sqrt(pixels * shape), np.sqrt(pixels / shape)], axis=1))
    sides = sides.clip(1, size).astype(np.int64)
    room = np.array(size) - sides
    return whole(u[:, 2:], 0, room), sides


def blanked(x: np.ndarray, start: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Set a box of each sample to 0; its first row and column ``start`` and its ``sides``, (B, 2), may reach beyond the sample."""
    out = x.copy()
    first = np.maximum(start, 0)
    end = np.maximum(start + sides, 0)
    for sample, (top, left), (bottom, right) in zip(out, first, end, strict=True):
        sample[..., top:bottom, left:right] = 0
    return out


# ---- augmentations ----


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
    return moved(x, whole(u, -4, 4), 4, "constant")


@register("augmentation", "roll")
@augmentation(2)
def roll(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Shift by up to 5 pixels along both axes, with wrap-around.

    Source: the augmentation of CIFAR10-DVS in TET, Deng et al., ICLR 2022.
    """
    return moved(x, whole(u, -5, 5), 5, "wrap")


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
    centre = whole(u, 0, np.array(x.shape[-2:]) - 1)
    return blanked(x, centre - side // 2, np.full_like(centre, side))


@register("augmentation", "erase")
@augmentation(5, late=True)
def erase(
    x: np.ndarray,
    u: np.ndarray,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> np.ndarray:
    """Random erasing: with probability 0.25, set a box to the mean; 2 % to 33 % of the area, height / width from 0.3 to 3.3.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.
    """
    start, sides = boxes(u[:, 1:], x.shape[-2:], area, ratio)
    return blanked(x, start, sides * (u[:, :1] < probability))


@register("augmentation", "cutout-area")
@augmentation(5, late=True)
def cutout_area(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Cutout of random area: with probability 0.5, set a box to the mean; 2 % to 40 % of the area, height / width from 0.4 to 2.5.

    Source: the cutout of torchtoolbox, which the code of CLIF uses; it fills the box with a random value.
    """
    return erase.apply(x, u, 0.5, (0.02, 0.4), (0.4, 2.5))


@register("augmentation", "nda")
@augmentation(3)
def nda(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of four transforms, drawn per sample: roll by up to 5 pixels, rotate or shear by up to 30 degrees, or cut out a square of 8 pixels.

    Source: neuromorphic data augmentation, Li et al., ECCV 2022, without its flip; use ``flip,nda``.
    """

    def slanted(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        return sheared(x, (2 * u[:, 0] - 1) * math.tan(math.radians(30)))

    return _one_of(x, u, roll.apply, partial(rotate.apply, degrees=30), slanted, partial(cutout.apply, side=8))


@register("augmentation", "snnaugment")
@augmentation(6)
def snnaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of six transforms, drawn per sample: none, shear by up to 0.3 rad, shift right or down by up to 5 pixels, rotate by up to 30 degrees, or cut out a square of 0.1 % to 11 % of the area.

    The strength of a transform is one of 31 equidistant values of either sign.

    Source: the augmentation of CIFAR10-DVS in Spikformer and QKFormer.
    """

    def strength(u: np.ndarray) -> np.ndarray:
        return whole(u[:, 0], 0, 30) / 30 * np.where(u[:, 1] < 0.5, 1, -1)

    def shifted(x: np.ndarray, u: np.ndarray, axis: int) -> np.ndarray:
        shift = np.zeros((len(x), 2), np.int64)
        shift[:, axis] = np.trunc(5 * strength(u))
        return moved(x, shift, 5, "constant")

    def slanted(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        return sheared(x, np.tan(0.3 * strength(u)))

    def turned(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        return warped(x, turning(math.radians(30) * strength(u)))

    def cut(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        start, sides = boxes(u[:, 1:], x.shape[-2:], (0.001, 0.11))
        return blanked(x, start, sides)

    def same(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        return x

    return _one_of(x, u, same, slanted, partial(shifted, axis=0), partial(shifted, axis=1), turned, cut)


def _one_of(x: np.ndarray, u: np.ndarray, *moves: Apply) -> np.ndarray:
    """Each sample of x transformed by one of ``moves``, which its first uniform selects; the move receives the others."""
    out = np.empty_like(x)
    choice = whole(u[:, 0], 0, len(moves) - 1)
    for index, move in enumerate(moves):
        chosen = choice == index
        if chosen.any():
            out[chosen] = move(x[chosen], u[chosen, 1:])
    return out


# ---- torchvision's colour and shape operations; x is (B, C, H, W) of uint8, C 1 or 3 ----
# Our draws replace those of torchvision's classes, which use torch's global generator, shared by all threads.


@register("augmentation", "autoaugment")
@augmentation(5, images_only=True)
def autoaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Two colour or shape operations of one of 25 sub-policies.

    Source: the policy for CIFAR-10 of Cubuk et al., CVPR 2019, as torchvision implements it.
    """
    import torch
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)

    def change(image: "Image", u: np.ndarray) -> Any:
        def draw(policies: int) -> tuple[int, torch.Tensor, torch.Tensor]:
            """A policy, two probabilities and two signs."""
            return int(whole(u[0], 0, policies - 1)), torch.from_numpy(u[1:3]), torch.from_numpy(whole(u[3:5], 0, 1))

        policy.get_params = draw
        return policy(image)

    return _changed(x, u, change)


@register("augmentation", "randaugment")
@augmentation(4, images_only=True)
def randaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """With probability 0.5, one of 14 colour or shape operations at magnitude 9 of 10, with standard deviation 0.4.

    The setting m9-mstd0.4-n1 of timm, with the operations and ranges of torchvision.

    Source: Cubuk et al., "RandAugment", NeurIPS 2020.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    height, width = x.shape[-2:]

    def change(image: "Image", u: np.ndarray) -> Any:
        if u[0] >= 0.5:
            return image
        magnitude = min(NormalDist(0.9, 0.04).inv_cdf(max(u[2], 1e-12)), 1.0)
        strength = magnitude * (1 if u[3] < 0.5 else -1)
        amounts = {
            "Identity": 0.0,
            "ShearX": 0.3 * strength,
            "ShearY": 0.3 * strength,
            "TranslateX": 150 / 331 * width * strength,
            "TranslateY": 150 / 331 * height * strength,
            "Rotate": 30 * strength,
            "Brightness": 0.9 * strength,
            "Color": 0.9 * strength,
            "Contrast": 0.9 * strength,
            "Sharpness": 0.9 * strength,
            "Posterize": 8 - round(4 * magnitude),
            "Solarize": 255 * (1 - magnitude),
            "AutoContrast": 0.0,
            "Equalize": 0.0,
        }
        name = list(amounts)[int(whole(u[1], 0, 13))]
        return _apply_op(image, name, amounts[name], InterpolationMode.NEAREST, None)

    return _changed(x, u, change)


def _changed(x: np.ndarray, u: np.ndarray, change: "Callable[[Image, np.ndarray], Any]") -> np.ndarray:
    """The result of ``change`` for each image and its draws."""
    from PIL import Image

    result = np.empty_like(x)
    for sample, draws, image in zip(result, u, x, strict=True):
        pixels = np.asarray(change(Image.fromarray(image.transpose(1, 2, 0).squeeze()), draws))
        sample[:] = pixels.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
    return result
