"""Help for adapters: what can be found out about another library's neurons without knowing it."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.neurons.surrogates import Surrogate

POINTS = 200_001  # at which a surrogate is looked at to find its area


class Pair(NamedTuple):
    """A layer of neurons with the last linear layer or convolution that was registered before it.

    Attributes:
        name: of the neurons, as in ``named_modules``.
        neurons: the module.
        weight: of the linear layer or convolution.
    """

    name: str
    neurons: Any
    weight: Tensor


def pairs(net: nn.Module, neurons: type[nn.Module]) -> Iterator[Pair]:
    """Neurons of a class, each with its synapse, of a network whose modules are registered in the order in which they run."""
    synapse: nn.Linear | nn.modules.conv._ConvNd | None = None
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            synapse = module
        if isinstance(module, neurons) and synapse is not None:
            yield Pair(name, module, synapse.weight)


def height_of(fire: Callable[[Tensor], Tensor]) -> Surrogate:
    """h(x, width) of a library's own firing function of x = u - v_th: the gradient that autograd gives it. It has its own width."""

    def h(x: Tensor, width: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(fire(x).sum(), x)
        return grad

    return h


def equivalent_width(h: Surrogate) -> Tensor:
    """Area over peak of a surrogate that has its own width, in units of u, as a number: exact to about 1e-5 of it.

    Its argument goes to infinity as x = tan(angle), so that slow tails count as a whole.
    """
    angle = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS * math.pi - math.pi / 2
    x, one = angle.tan(), torch.ones((), dtype=torch.float64)
    values = h(x, one)
    area = (values * (1 + x.square())).mean() * math.pi
    return area / h(torch.zeros(1, dtype=torch.float64), one)[0]
