"""Convolutions for inference on CPUs that reorder their weights once; in plain convolutions, oneDNN reorders them in every call."""

import torch
from torch import Tensor, nn

from lsgcli.models.convolution import Conv2d


class PrepackedConv2d(nn.Conv2d):
    """A convolution, (N, C, H, W) -> (N, C', H', W'), with constant weights.

    Attributes:
        kept: shape and type of the latest input, and weight and bias reordered and converted for it; None before the first call.
    """

    kept: tuple[tuple[torch.Size, torch.dtype], Tensor, Tensor | None] | None

    def forward(self, input: Tensor) -> Tensor:
        """As a plain convolution, in the type of autocast if it is enabled."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if not _supported(input, dtype):
            return super().forward(input)
        where, ops = (self.padding, self.stride, self.dilation, self.groups), torch.ops.mkldnn
        if self.kept is None or self.kept[0] != (input.shape, dtype):
            weight = ops._reorder_convolution_weight(self.weight.to(dtype), *where, input.shape)
            self.kept = (input.shape, dtype), weight, None if self.bias is None else self.bias.to(dtype)
        _, weight, bias = self.kept
        return ops._convolution_pointwise(input.to(dtype), weight, bias, *where, "none", [], "")  # type: ignore[no-any-return]


def _supported(input: Tensor, dtype: torch.dtype) -> bool:
    if input.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prepack(network: nn.Module) -> None:
    """Let all plain convolutions of a network in evaluation mode reorder their weights once, in place."""
    for module in network.modules():
        if type(module) in (nn.Conv2d, Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__, module.kept = PrepackedConv2d, None  # type: ignore[assignment]
