"""Folding tdBN into the convolutions before it: the same network in inference, with fewer operations and plain weights.

With running mean m and variance v, tdBN is affine per channel:  I_bar = k (I - m) + mu,  k = gamma eta v_th / sqrt(v + eps).
So the convolution's weights are multiplied by k, and its bias becomes mu - k m. Rounding moves results by about 1e-6.
"""

import copy

import torch
from torch import nn

from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import LIF, TdBatchNorm2d


def fold(model: SpikingNet) -> SpikingNet:
    """A copy of the network, in evaluation mode, whose convolutions carry the tdBN."""
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, TdBatchNorm2d):
            _fold_weights(module.conv, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, LIF):
            module.remove_norm()
    return folded


def fold_structure(model: SpikingNet) -> SpikingNet:
    """The network itself, given the structure of a folded one but not its weights, which are about to be loaded."""
    for module in model.modules():
        if isinstance(module, ConvNorm):
            module.conv.bias = nn.Parameter(module.conv.weight.new_zeros(module.conv.out_channels))
            module.norm = nn.Identity()
        elif isinstance(module, LIF):
            module.remove_norm()
    return model.eval()


def _fold_weights(conv: nn.Conv2d, norm: TdBatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        # In double precision: the rounding of the product is then the only one.
        k = norm.weight.double() * norm.scale / (norm.running_var.double() + norm.eps).sqrt()
        bias = norm.bias.double() - k * norm.running_mean.double()
        weight = conv.weight.double() * k.view(-1, 1, 1, 1)
        conv.weight.copy_(weight)
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype))


def is_folded(model: SpikingNet) -> bool:
    """Whether the network's convolutions carry their tdBN already."""
    return not any(isinstance(module, TdBatchNorm2d) for module in model.modules())
