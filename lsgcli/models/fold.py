"""Folding tdBN into the preceding convolutions: an equivalent network for inference, with fewer operations.

With running mean m and variance v, tdBN is affine per channel:  I_bar = k (I - m) + mu,  k = gamma eta v_th / sqrt(v + eps).
The convolution's weights are multiplied by k, and its bias b, 0 in most networks, becomes mu - k (m - b). Results differ by rounding of
about 1e-6. The factors of TEBN per timestep remain.
"""

import copy

import torch
from torch import nn

from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm
from lsgcli.models.quantise import settle
from lsgcli.neurons import LIF, TdBatchNorm2d


def fold(model: SpikingNet) -> SpikingNet:
    """A copy of the network in evaluation mode, with tdBN folded into the convolutions."""
    return fold_in_place(copy.deepcopy(model))


@torch.no_grad()
def fold_in_place(model: SpikingNet) -> SpikingNet:
    """Fold the network itself; a new network gets the structure of a folded one, for which weights are then loaded."""
    settle(model)
    for module in model.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, TdBatchNorm2d):
            conv = module.conv
            norm = module.norm
            bias = conv.weight.new_zeros(conv.out_channels)
            if not bias.is_meta:  # computing with shapes alone would import torch's compiler
                # In double precision, so that only the result is rounded.
                k = norm.weight.double() * norm.scale / (norm.running_var.double() + norm.eps).sqrt()
                before = 0 if conv.bias is None else conv.bias.double()
                bias.copy_(norm.bias.double() - k * (norm.running_mean.double() - before))
                conv.weight.copy_(conv.weight.double() * k.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(bias)
            module.norm = norm.folded()
        elif isinstance(module, LIF):
            module.remove_norm()
    return model.eval()


def is_folded(model: SpikingNet) -> bool:
    """Whether no convolution of the network has a tdBN to fold. A tdBN elsewhere, in a network of a plug-in, is not folded."""
    return not any(isinstance(module, ConvNorm) and isinstance(module.norm, TdBatchNorm2d) for module in model.modules())
