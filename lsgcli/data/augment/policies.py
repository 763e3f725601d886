"""Augmentations of images by torchvision's colour and shape operations; x is (B, C, H, W) of uint8, C 1 or 3.

Draws replace those of torchvision's classes, which use torch's global generator, shared by all threads.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from PIL import Image

from lsgcli.data.augment.base import augmentation
from lsgcli.data.augment.frames import whole
from lsgcli.registry import register


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
    size = x.shape[-2:]

    def change(image: Image.Image, u: np.ndarray) -> Any:
        if u[0] >= 0.5:
            return image
        magnitude = NormalDist(0.9, 0.04).inv_cdf(max(u[2], 1e-12))
        return _operation(image, int(whole(u[1], 0, 13)), min(magnitude, 1.0) * (1 if u[3] < 0.5 else -1), size)

    return _changed(x, u, change)


def _changed(x: np.ndarray, u: np.ndarray, change: Callable[[Image.Image, np.ndarray], Any]) -> np.ndarray:
    """The result of ``change`` for each image and its draws."""

    def changed(image: np.ndarray, draws: np.ndarray) -> np.ndarray:
        pixels = np.asarray(change(Image.fromarray(image.transpose(1, 2, 0).squeeze()), draws))
        return pixels.reshape(*image.shape[1:], -1).transpose(2, 0, 1)

    return np.stack([changed(image, draws) for image, draws in zip(x, u, strict=True)])


def _operation(image: Any, number: int, strength: float, size: tuple[int, ...]) -> Any:
    """One of torchvision's 14 operations on an image of ``size`` (H, W), with the ranges of RandAugment.

    Args:
        strength: from -1 to 1; operations without a direction ignore its sign, the first and the last two all of it.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    down, right = (150 / 331 * length for length in size)
    strengths = {
        "Identity": 0.0,
        "ShearX": 0.3 * strength,
        "ShearY": 0.3 * strength,
        "TranslateX": right * strength,
        "TranslateY": down * strength,
        "Rotate": 30 * strength,
        "Brightness": 0.9 * strength,
        "Color": 0.9 * strength,
        "Contrast": 0.9 * strength,
        "Sharpness": 0.9 * strength,
        "Posterize": 8 - round(4 * abs(strength)),
        "Solarize": 255 * (1 - abs(strength)),
        "AutoContrast": 0.0,
        "Equalize": 0.0,
    }
    name, amount = list(strengths.items())[number]
    return _apply_op(image, name, amount, InterpolationMode.NEAREST, None)
