"""Helpers for adapters of other libraries' neurons."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.neurons.surrogates import Surrogate

POINTS = 200_001  # sampling points for the area of a surrogate


class Pair(NamedTuple):
    """A layer of neurons and the last linear layer or convolution registered before it.

    Attributes:
        name: name of the neurons, as in ``named_modules``.
        neurons: the module.
        weight: weight of the linear layer or convolution.
    """

    name: str
    neurons: Any
    weight: Tensor


def pairs(net: nn.Module, neurons: type[nn.Module]) -> Iterator[Pair]:
    """Pair the neurons of a class with their weights, in a network whose modules are registered in execution order."""
    synapse: nn.Linear | nn.modules.conv._ConvNd | None = None
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            synapse = module
        if isinstance(module, neurons) and synapse is not None:
            yield Pair(name, module, synapse.weight)


def height_of(fire: Callable[[Tensor], Tensor]) -> Surrogate:
    """The surrogate h(x, width) of another library's firing function of x = u - v_th, from autograd; ``width`` is ignored."""

    def h(x: Tensor, width: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(fire(x).sum(), x)
        return grad

    return h


def equivalent_width(h: Surrogate) -> Tensor:
    """Area over peak of a surrogate with built-in width, in units of u, with a relative error of about 1e-5.

    Integrates over x = tan(angle), so that slowly decaying tails are included completely.
    """
    angle = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS * math.pi - math.pi / 2
    x, one = angle.tan(), torch.ones((), dtype=torch.float64)
    values = h(x, one)
    area = (values * (1 + x.square())).mean() * math.pi
    return area / h(torch.zeros(1, dtype=torch.float64), one)[0]
