"""Augmentations of images by torchvision's colour and shape operations; x is (B, C, H, W) of uint8, C 1 or 3.

Draws replace those of torchvision's classes, which use torch's global generator, shared by all threads.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from PIL import Image

from lsgcli.data.augment.base import augmentation
from lsgcli.data.augment.frames import whole
from lsgcli.registry import register

Operation = Callable[[Any, float], Any]  # (PIL image, strength from -1 to 1) -> PIL image


@register("augmentation", "autoaugment")
@augmentation(5, images_only=True)
def autoaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Two colour or shape operations of one of 25 sub-policies.

    Source: the policy for CIFAR-10 of Cubuk et al., CVPR 2019, as torchvision implements it.
    """
    import torch
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)

    def change(image: Image.Image, u: np.ndarray) -> Any:
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
    operations = _operations(x.shape[-2:], wide=False)

    def change(image: Image.Image, u: np.ndarray) -> Any:
        if u[0] >= 0.5:
            return image
        magnitude = NormalDist(0.9, 0.04).inv_cdf(max(u[2], 1e-12))
        return operations[int(whole(u[1], 0, 13))](image, min(magnitude, 1.0) * (1 if u[3] < 0.5 else -1))

    return _changed(x, u, change)


@register("augmentation", "trivialaugment")
@augmentation(3, images_only=True)
def trivialaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of 14 colour or shape operations, with one of 31 strengths.

    Source: Mueller and Hutter, "TrivialAugment", ICCV 2021 (the wide space), as torchvision implements it.
    """
    operations = _operations(x.shape[-2:], wide=True)

    def change(image: Image.Image, u: np.ndarray) -> Any:
        strength = int(whole(u[1], 0, 30)) / 30 * (1 if u[2] < 0.5 else -1)
        return operations[int(whole(u[0], 0, 13))](image, strength)

    return _changed(x, u, change)


def _changed(x: np.ndarray, u: np.ndarray, change: Callable[[Image.Image, np.ndarray], Any]) -> np.ndarray:
    """The result of ``change`` for each image and its draws."""

    def changed(image: np.ndarray, draws: np.ndarray) -> np.ndarray:
        pixels = np.asarray(change(Image.fromarray(image.transpose(1, 2, 0).squeeze()), draws))
        return pixels.reshape(*image.shape[1:], -1).transpose(2, 0, 1)

    return np.stack([changed(image, draws) for image, draws in zip(x, u, strict=True)])


def _operations(size: tuple[int, ...], wide: bool) -> list[Operation]:
    """Torchvision's operations for images of ``size`` (H, W), with the ranges of RandAugment or, if ``wide``, TrivialAugment.

    Operations without a direction ignore the sign of the strength, the last two and the first all of it.
    """
    from torchvision.transforms import functional as F

    slope, degrees, colour, bits = (0.99, 135, 0.99, 6) if wide else (0.3, 30, 0.9, 4)
    down, right = (32.0, 32.0) if wide else [150 / 331 * length for length in size]

    def affine(image: Any, shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)) -> Any:
        angles = [math.degrees(math.atan(tangent)) for tangent in shear]
        centre = [0, 0] if any(shear) else None
        return F.affine(image, 0.0, [int(shift[0]), int(shift[1])], 1.0, angles, center=centre)

    return [
        lambda x, s: x,
        lambda x, s: affine(x, shear=(slope * s, 0)),
        lambda x, s: affine(x, shear=(0, slope * s)),
        lambda x, s: affine(x, shift=(right * s, 0)),
        lambda x, s: affine(x, shift=(0, down * s)),
        lambda x, s: F.rotate(x, degrees * s),
        lambda x, s: F.adjust_brightness(x, 1 + colour * s),
        lambda x, s: F.adjust_saturation(x, 1 + colour * s),
        lambda x, s: F.adjust_contrast(x, 1 + colour * s),
        lambda x, s: F.adjust_sharpness(x, 1 + colour * s),
        lambda x, s: F.posterize(x, 8 - round(bits * abs(s))),
        lambda x, s: F.solarize(x, 255 * (1 - abs(s))),
        lambda x, s: F.autocontrast(x),
        lambda x, s: F.equalize(x),
    ]
