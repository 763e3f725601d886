"""Mixup and CutMix: training samples and labels mixed with those of a partner from the same batch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.config.data import DataConfig
from lsgcli.data import random


class Draw(NamedTuple):
    """How a batch is mixed.

    Attributes:
        weight: of each sample; its partner has 1 - weight.
        box: top, bottom, left, right of the pixels taken from the partner (CutMix); None for Mixup.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Mixing:
    """Settings of the mixing.

    Sample i of a batch of n samples, in random order, has the partner n - 1 - i. All samples of a batch have the same weight and box,
    which depend on seed, epoch and index of the batch.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix", ICCV 2019.

    Attributes:
        config: provides ``mixup`` and ``cutmix``, a of Beta(a, a) from which the weight is drawn, and ``mix_prob``.
        classes: number of classes.
    """

    config: DataConfig
    classes: int

    @classmethod
    def of(cls, config: DataConfig, epoch: int, classes: int) -> "Mixing | None":
        """The mixing in an epoch; None if there is none."""
        ended = config.mix_until is not None and epoch >= config.mix_until
        if ended or not (config.mixup or config.cutmix):
            return None
        return cls(config, classes)

    def draw(self, seed: int, epoch: int, index: int, size: tuple[int, int]) -> Draw | None:
        """How batch ``index`` of samples of ``size`` (H, W) is mixed; None if it is not.

        The box of CutMix has a random centre and may extend beyond the image; the weight is the fraction of pixels outside of it.
        """
        rng = random.generator(seed, epoch, np.uint64(index), "mix")
        if rng.random() >= self.config.mix_prob:
            return None
        mixup, cutmix = self.config.mixup, self.config.cutmix
        cuts = rng.random() < 0.5 if mixup and cutmix else cutmix > 0
        a = cutmix if cuts else mixup
        weight = rng.beta(a, a)
        if not cuts:
            return Draw(weight)
        edges: list[int] = []
        for length in size:
            half, centre = int(length * np.sqrt(1 - weight)) // 2, int(rng.integers(length))
            edges += [max(0, centre - half), min(length, centre + half)]
        top, bottom, left, right = edges
        return Draw(1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))

    def __call__(self, draw: Draw, x: Tensor, y: Tensor, own: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed samples and labels.

        Args:
            x: (T, N, C, H, W) or (N, C, H, W) float32.
            y: (N,) labels.
            own, partners: (B,) indices of the samples and their partners among the N.

        Returns:
            x like the argument, with B samples, and (B, classes) float32 probabilities.
        """
        axis = x.dim() - 4
        mixed, other = x.index_select(axis, own), x.index_select(axis, partners)
        if draw.box is None:
            mixed.mul_(draw.weight).add_(other, alpha=1 - draw.weight)
        else:
            top, bottom, left, right = draw.box
            mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        labels = F.one_hot(y, self.classes).to(torch.float32)
        return mixed, draw.weight * labels[own] + (1 - draw.weight) * labels[partners]
