"""Statistics of a layer's weight gradients over mini-batches, and their comparison with finite differences of the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.system.device import full_precision


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

    def record(self, reference: float) -> dict[str, Any]:
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
        The cosine similarity; None if either vector is 0.
    """
    if grad is None:
        return None
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(weight.numel(), generator=generator)[: sample.count].tolist()
    indices = [torch.unravel_index(torch.tensor(i), weight.shape) for i in chosen]
    e = sample.step * float(weight.square().mean().sqrt())
    measured = []
    expected = []
    for index in indices:
        before = weight[index].clone()
        values = []
        steps = []
        for sign in (1, -1):
            weight[index] = before + sign * e
            steps.append(float(weight[index]))  # rounded to the type of the weights
            values.append(float(loss()))
        weight[index] = before
        measured.append((values[0] - values[1]) / (steps[0] - steps[1]))
        expected.append(float(grad[index]))
    a = torch.tensor(measured, dtype=torch.float64)
    b = torch.tensor(expected, dtype=torch.float64)
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else None
