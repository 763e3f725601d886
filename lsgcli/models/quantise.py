"""Weights on a grid of integers per output channel: rounding, training with few bits, and storage.

A weight is q s, with an integer q, abs(q) < 2^(bits - 1), and one scale s > 0 per output channel; there is no offset, so 0 stays 0. Scales
have at most 16 significant bits. So q s is exact in float32, and weights on a grid are on the same grid when they are quantised again.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.models.convolution import Conv2d

BITS = 8  # of weights that were not trained with fewer
SIGNIFICANT = 16  # bits of a scale
SCALE = "_scale"  # follows the name of a weight
Synapse = nn.Conv2d | nn.Linear


@torch.no_grad()
def integers(weight: Tensor, bits: int = BITS) -> tuple[Tensor, Tensor]:
    """The integers q, int8 and shaped like the weight (C, ...), and the scales s (C,), of the weight's type.

    s is the largest absolute weight of the channel divided by 2^(bits - 1) - 1, and q the nearest integer to weight / s.
    """
    most = 2 ** (bits - 1) - 1
    largest = weight.abs().flatten(1).amax(1)
    mantissa, exponent = torch.frexp(torch.where(largest > 0, largest, 1.0) / most)
    scale = torch.ldexp(torch.ldexp(mantissa, torch.tensor(SIGNIFICANT)).round(), exponent - SIGNIFICANT).to(weight.dtype)
    return (weight / over_channels(scale, weight)).round().clamp(-most, most).to(torch.int8), scale


def over_channels(scale: Tensor, weight: Tensor) -> Tensor:
    """Scales (C,), shaped to broadcast against a weight (C, ...)."""
    return scale.view(-1, *(1,) * (weight.dim() - 1))


def on_grid(weight: Tensor, bits: int = BITS) -> Tensor:
    """The weight on its grid, q s."""
    q, scale = integers(weight, bits)
    return q * over_channels(scale, q)


class StraightThrough(torch.autograd.Function):
    """:func:`on_grid`, whose gradient is passed on unchanged.

    Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", arXiv 1308.3432.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        return on_grid(weight, bits)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class RoundedConv2d(Conv2d):
    """A convolution that multiplies by its weight on a grid of ``bits``."""

    bits: int

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, StraightThrough.apply(weight, self.bits), bias)


class RoundedLinear(nn.Linear):
    """A linear layer that multiplies by its weight on a grid of ``bits``."""

    bits: int

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, StraightThrough.apply(self.weight, self.bits), self.bias)


def train_rounded(model: nn.Module, bits: int) -> None:
    """Make all convolutions and linear layers of a network multiply by weights of ``bits``, in place; training updates the float weights."""
    for _, module in synapses(model):
        module.__class__ = RoundedConv2d if isinstance(module, nn.Conv2d) else RoundedLinear
        module.bits = bits  # type: ignore[assignment]


def plain(synapse: nn.Module) -> tuple[nn.Module, Tensor]:
    """The same layer without rounding, which shares its parameters, and the weight that ``synapse`` multiplies by."""
    weight: Tensor = synapse.weight.detach()  # type: ignore[assignment,union-attr,operator]
    if not isinstance(synapse, RoundedConv2d | RoundedLinear):
        return synapse, weight.clone()
    layer: nn.Module = copy.copy(synapse)
    layer.__class__ = type(synapse).__base__  # type: ignore[assignment]
    return layer, on_grid(weight, synapse.bits)


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Replace rounded layers by plain ones with the rounded weights, in place."""
    for _, module in synapses(model):
        if isinstance(module, RoundedConv2d | RoundedLinear):
            module.weight.copy_(on_grid(module.weight, module.bits))
            module.__class__ = type(module).__base__  # type: ignore[assignment]


def synapses(model: nn.Module) -> Iterator[tuple[str, Synapse]]:
    """Name and module of each convolution and linear layer."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))


@torch.no_grad()
def round_weights(model: nn.Module, bits: int = BITS) -> None:
    """Round the weights of all convolutions and linear layers, in place."""
    for _, module in synapses(model):
        module.weight.copy_(on_grid(module.weight, bits))


def packed(model: nn.Module, bits: int = BITS) -> dict[str, Tensor]:
    """The state of a network whose weights are on a grid, each as its integers, int8, and their scales, ``<name of the weight>_scale``."""
    state = model.state_dict()
    for name, module in synapses(model):
        state[f"{name}.weight"], state[f"{name}.weight{SCALE}"] = integers(module.weight, bits)
    return state


def unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with float weights, for a state from :func:`packed`. Any other state is unchanged, for example one with scales of another shape."""
    plain = dict(state)
    for name, scale in state.items():
        weight = name.removesuffix(SCALE)
        stored = state.get(weight) if weight != name else None
        if stored is not None and stored.dtype == torch.int8 and scale.shape == stored.shape[:1]:
            plain[weight] = stored * over_channels(plain.pop(name), stored)
    return plain
