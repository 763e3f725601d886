"""AutoAugment's policy for CIFAR-10 (Cubuk et al., CVPR 2019), by torchvision."""

import numpy as np

from lsgcli.data.augment import augmentation, whole


@augmentation("autoaugment", 5, images_only=True)
def autoaugment(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Two colour or shape operations of one of 25 sub-policies; x is (B, C, H, W) of uint8, C 1 or 3."""
    return np.stack([_augmented(image, draws) for image, draws in zip(x, u, strict=True)])


def _augmented(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    import torch
    from PIL import Image
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    def draw(policies: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        """A policy, two probabilities and two signs."""
        return int(whole(u[0], 0, policies - 1)), torch.from_numpy(u[1:3]), torch.from_numpy(whole(u[3:5], 0, 1))

    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    # In place of the class's own draws, which come from torch's global generator that all threads share.
    policy.get_params = draw
    augmented = np.asarray(policy(Image.fromarray(image.transpose(1, 2, 0).squeeze())))
    return augmented.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
