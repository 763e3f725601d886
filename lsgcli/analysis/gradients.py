"""Gradients of a layer's weights and input over mini-batches, its gain, and finite differences of the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lsgcli.analysis.watchers import Watcher
from lsgcli.errors import ConfigError
from lsgcli.models.quantise import plain
from lsgcli.neurons.widths import GAIN
from lsgcli.system.device import full_precision
from lsgcli.system.schema import Record


class WeightGradients:
    """Norms and moments of dL/dW of one layer; stores two tensors of the size of W.

    Args:
        weight: W.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        self.norms: list[float] = []
        self.zeros: list[float] = []
        self.temporal: list[float] = []
        self.mean = torch.zeros_like(full_precision(self.weight))  # of each entry
        self.squares = torch.zeros_like(self.mean)  # sum of squared deviations from it (Welford)

    @torch.no_grad()
    def add(self, grad: Tensor | None, spatial: Tensor | None) -> None:
        """Add the gradient of a mini-batch, and that without the recurrence; None means 0."""
        grad = torch.zeros_like(self.mean) if grad is None else full_precision(grad)
        total = norm(grad)
        self.norms.append(total)
        self.zeros.append(1 - int(torch.count_nonzero(grad)) / max(1, grad.numel()))
        if total > 0:
            self.temporal.append(norm(grad if spatial is None else grad - spatial) / total)
        n = len(self.norms)
        deviation = grad - self.mean
        self.mean.add_(deviation, alpha=1 / n)
        self.squares.addcmul_(deviation, deviation, value=(n - 1) / n)

    def snr(self) -> float:
        """Median of abs(mean) / std over entries with std > 0; std with n - 1. NaN for one mini-batch."""
        varied = self.squares > 0
        ratios = self.mean[varied].abs() / (self.squares[varied] / (len(self.norms) - 1)).sqrt()
        return float(np.median(ratios.cpu().numpy())) if len(ratios) else math.nan

    def record(self, reference: float) -> Record:
        """The measures of the weight gradients, by name; ``reference`` is the gradient norm of the last layer of neurons."""
        gradient = mean(self.norms)
        own = norm(self.weight)
        return {
            "grad_norm": gradient,
            "grad_ratio": gradient / reference if reference > 0 else math.nan if gradient else 0.0,
            "grad_relative": gradient / own if own > 0 else math.nan,
            "grad_zero_weight": mean(self.zeros),
            "temporal_share": mean(self.temporal),
            "snr": self.snr(),
        }


class InputGradients:
    """Squares of dL/ds of a layer, the predictions of its gain, and which of its inputs are always 0.

        gain = mean of (dL/ds)^2 / mean of (dL/do)^2

    s is the input of the layer's weights, o its spikes, before pooling. dL/ds is the gradient through these weights only. The gain contains
    the neurons (with their recurrence in time), the normalisation and the weights, but no pooling and no other branch.

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

    def record(self, sg_sq_mean: float) -> Record:
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


def norm(x: Tensor) -> float:
    """L2 norm."""
    return float(size(x))


def size(x: Tensor) -> Tensor:
    """L2 norm, (), on the device."""
    return torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float64))


def mean(values: list[float]) -> float:
    """Mean; NaN if empty."""
    return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Sample:
    """Sampling of weights and step of the finite differences.

    Attributes:
        count: number of weights per layer; all if there are fewer.
        step: step to either side, relative to the root mean square of the layer's weights.
    """

    count: int
    step: float = 0.1


@torch.no_grad()
def mismatch(weight: Tensor, grad: Tensor | None, loss: Callable[[], Tensor], sample: Sample) -> float | None:
    """Cosine between the gradient and central finite differences of the loss, over sampled weights of a layer.

        (L(w + e) - L(w - e)) / 2e

    The loss of a spiking network changes in steps when spikes appear or vanish; with too small an e, the difference contains no step,
    or one by chance.

    Args:
        weight: weight of the layer; restored afterwards.
        grad: dL/dW of the same mini-batch.
        loss: computes L with the current weights.
        sample: selection of weights, and e.

    Returns:
        The cosine similarity; None if either vector is 0, or all weights are.

    Raises:
        ConfigError: e is so small that a weight stays the same.
    """
    if grad is None or not weight.any():
        return None
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(weight.numel(), generator=generator)[: sample.count].tolist()
    e = sample.step * float(weight.square().mean().sqrt())
    measured = []
    expected = []
    for place in chosen:
        index = torch.unravel_index(torch.tensor(place), weight.shape)
        before = weight[index].clone()
        values = []
        steps = []
        for sign in (1, -1):
            weight[index] = before + sign * e
            steps.append(float(weight[index]))  # rounded to the type of the weights
            values.append(float(loss()))
        weight[index] = before
        distance = steps[0] - steps[1]
        if distance == 0:
            raise ConfigError(
                f"finite differences: found a step of {sample.step:g}, which leaves a weight of "
                f"{steps[0]:g} as it is, expected a larger one",
                "Omit --mismatch-step, or give it a larger value.",
            )
        measured.append((values[0] - values[1]) / distance)
        expected.append(float(grad[index]))
    a = torch.tensor(measured, dtype=torch.float64)
    b = torch.tensor(expected, dtype=torch.float64)
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else None
