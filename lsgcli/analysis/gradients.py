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
    """Norms and moments of dL/dW of one layer; stores two tensors of the size of W."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.zeros: list[float] = []
        self.temporal: list[float] = []
        self.n = 0
        self.mean: Tensor | None = None  # of each entry, and the sum of squared deviations from it (Welford)
        self.squares: Tensor | None = None

    @torch.no_grad()
    def add(self, grad: Tensor | None) -> None:
        """Add the gradient of a mini-batch; None means 0."""
        self.norms.append(norm(grad))
        self.zeros.append(1.0 if grad is None else 1 - int(torch.count_nonzero(grad)) / max(1, grad.numel()))
        self.n += 1
        if grad is None:
            grad = torch.zeros(()) if self.mean is None else torch.zeros_like(self.mean)
        grad = full_precision(grad)
        if self.mean is None or self.squares is None or self.mean.shape != grad.shape:
            self.mean, self.squares = torch.zeros_like(grad), torch.zeros_like(grad)
        deviation = grad - self.mean
        self.mean.add_(deviation, alpha=1 / self.n)
        self.squares.addcmul_(deviation, deviation, value=(self.n - 1) / self.n)

    @torch.no_grad()
    def add_spatial(self, whole: Tensor | None, spatial: Tensor | None) -> None:
        """Add a gradient and the corresponding gradient without the recurrence."""
        total = norm(whole)
        if whole is not None and total > 0:
            self.temporal.append(norm(whole if spatial is None else full_precision(whole) - spatial) / total)

    def snr(self) -> float:
        """Median of abs(mean) / std over entries with std > 0; std with n - 1. NaN for one mini-batch."""
        if self.n < 2 or self.mean is None or self.squares is None:
            return math.nan
        varied = self.squares > 0
        ratios = self.mean[varied].abs() / (self.squares[varied] / (self.n - 1)).sqrt()
        return float(np.median(ratios.cpu().numpy())) if len(ratios) else math.nan

    def record(self, weight: Tensor, reference: float) -> dict[str, Any]:
        """The measures of the weight gradients, by name.

        Args:
            weight: W.
            reference: gradient norm of the last layer of neurons.
        """
        gradient, own = mean(self.norms), norm(weight.detach())
        return {
            "grad_norm": gradient,
            "grad_ratio": gradient / reference if reference > 0 else math.nan if gradient else 0.0,
            "grad_relative": gradient / own if own > 0 else math.nan,
            "grad_zero_weight": mean(self.zeros),
            "temporal_share": mean(self.temporal),
            "snr": self.snr(),
        }


def norm(x: Tensor | None) -> float:
    """L2 norm; 0 for None."""
    return 0.0 if x is None else float(size(x))


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
        seed: seed of the sampling.
    """

    count: int
    step: float = 0.1
    seed: int = 0


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
    generator = torch.Generator().manual_seed(sample.seed)
    chosen = torch.randperm(weight.numel(), generator=generator)[: sample.count].tolist()
    indices = [torch.unravel_index(torch.tensor(i), weight.shape) for i in chosen]
    e = sample.step * float(weight.square().mean().sqrt())
    measured, expected = [], []
    for index in indices:
        before = weight[index].clone()
        values, steps = [], []
        for sign in (1, -1):
            weight[index] = before + sign * e
            steps.append(float(weight[index]))  # rounded to the type of the weights
            values.append(float(loss()))
        weight[index] = before
        measured.append((values[0] - values[1]) / (steps[0] - steps[1]))
        expected.append(float(grad[index]))
    a, b = torch.tensor(measured, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else None
