"""Is the surrogate gradient the direction in which the loss really changes?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """How weights are sampled and moved.

    Attributes:
        count: weights of each layer; all of them if there are fewer.
        step: by how much a weight is moved to either side, in units of the root mean square of its layer's.
        seed: of the choice.
    """

    count: int
    step: float = 0.1
    seed: int = 0


@torch.no_grad()
def mismatch(weight: Tensor, grad: Tensor | None, loss: Callable[[], Tensor], sample: Sample) -> float | None:
    """Cosine between the gradient and central finite differences of the loss, over sampled weights of a layer.

        (L(w + e) - L(w - e)) / 2e

    The loss of a spiking network moves in steps, as spikes come and go; a difference over too small an e sees none of them, or
    one by chance.

    Args:
        weight: of the layer; as it was, afterwards.
        grad: dL/dW of the same mini-batch.
        loss: computes L anew.
        sample: which weights, and e.

    Returns:
        The cosine; None where either is 0.
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
