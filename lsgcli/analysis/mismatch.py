"""Comparison of the surrogate gradient with finite differences of the loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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
    places = [torch.unravel_index(torch.tensor(i), weight.shape) for i in chosen]
    e = sample.step * float(weight.square().mean().sqrt())
    found, expected = [], []
    for place in places:
        before = weight[place].clone()
        values = []
        for sign in (1, -1):
            weight[place] = before + sign * e
            values.append(float(loss()))
        weight[place] = before
        found.append((values[0] - values[1]) / (2 * e))
        expected.append(float(grad[place]))
    a, b = torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
    size = a.norm() * b.norm()
    return float(a @ b / size) if size > 0 else None
