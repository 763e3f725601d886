"""Exponential moving average of a network."""

import copy

import torch
from torch import Tensor

from lsgcli.models.base import SpikingNet


class ExponentialMovingAverage:
    """A network whose weights and running statistics e follow those of a trained network, w: e <- d e + (1 - d) w after each step.

    What neurons set at the beginning of an epoch must be equal in both: call ``begin_epoch`` of both.

    Args:
        model: the trained network, from which the average starts.
        decay: d.

    Attributes:
        model: the averaged network.
    """

    def __init__(self, model: SpikingNet, decay: float):
        self.model, self.decay = copy.deepcopy(model), decay

    @torch.no_grad()
    def update(self, model: SpikingNet, skip: Tensor) -> None:
        """Include the state after a step of ``model``; if ``skip``, () on the device, is true, nothing changes."""
        for mean, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            following = mean.lerp(new, 1 - self.decay) if mean.is_floating_point() else new
            mean.copy_(torch.where(skip, mean, following))
