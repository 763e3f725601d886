"""The gain of a layer: the factor by which the mean square of the gradient changes between its spikes and the input of its weights.

    gain = mean of (dL/ds)^2 / mean of (dL/do)^2

s is the input of the layer's weights, o its spikes, before pooling. dL/ds is the gradient through these weights only. The gain contains the
neurons (with their recurrence in time), the normalisation and the weights, but no pooling and no other branch.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lsgcli.analysis.gradients import norm
from lsgcli.analysis.watchers import Watcher
from lsgcli.models.quantise import plain
from lsgcli.neurons.widths import GAIN


class InputGradients:
    """Squares of dL/ds of a layer, the predictions of its gain, and which of its inputs are always 0.

    Args:
        synapse: module of the layer's weights; None if it is unknown.
        watcher: observes the layer's neurons.
    """

    def __init__(self, synapse: nn.Module | None, watcher: Watcher):
        self.synapse = synapse
        self.watcher = watcher
        self.total = 0.0
        self.n = 0
        self.shape = torch.Size()  # of s, without the batch
        self.active: Tensor | None = None  # (C,): channels or features that were not always 0
        self.handles = [] if synapse is None else [synapse.register_forward_pre_hook(self._enters)]

    def close(self) -> None:
        """Stop observing."""
        for handle in self.handles:
            handle.remove()

    def _enters(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        s, *others = arguments
        self.shape = s.shape[1:]
        channel = s.dim() - 1 if isinstance(module, nn.Linear) else 1
        active = s.detach().abs().amax([axis for axis in range(s.dim()) if axis != channel]) > 0
        self.active = active if self.active is None else self.active | active
        if not s.requires_grad:  # the network's input
            return None
        s = s.view_as(s)  # excludes gradients of other branches
        s.register_hook(self._arrives)
        return (s, *others)

    def _arrives(self, grad: Tensor) -> None:
        if not self.watcher.spatial:
            self.total += norm(grad) ** 2
            self.n += grad.numel()

    def record(self, sg_sq_mean: float) -> dict[str, Any]:
        """The measures of the layer's input, for the mean square of the surrogate."""
        sums = self.watcher.sums
        arriving = sums.mean("grad_squared")
        weights = None if self.synapse is None or sums.scale is None else self._outgoing(sums.scale) * sg_sq_mean
        return {
            "gain": self.total / self.n / arriving if self.n and arriving > 0 else math.nan,
            "presynaptic_silent": math.nan if self.active is None else float((~self.active).double().mean()),
            "gain_predicted": {"kaiming": GAIN * sums.threshold**2 * sg_sq_mean, "weights": weights},
        }

    @torch.no_grad()
    def _outgoing(self, scale: Tensor) -> float:
        """Sum of the squares of all weights from an input, each times ``scale`` (C,) of its output channel; mean over the inputs."""
        assert self.synapse is not None
        synapse, weight = plain(self.synapse)
        parameters = {name: torch.zeros_like(p) for name, p in synapse.named_parameters()} | {"weight": weight}
        weight.mul_(scale.reshape(-1, *(1,) * (weight.dim() - 1))).square_()
        ones = weight.new_ones(1, *self.shape)
        return float(functional_call(synapse, parameters, ones).sum(dtype=torch.float64)) / ones.numel()
