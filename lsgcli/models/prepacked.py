"""Weights that oneDNN reorders once, for inference on CPUs; in plain convolutions, it reorders them in every call."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def supported(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves x in a type with reordered weights."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def reordered(weight: Tensor, bias: Tensor | None, where: tuple[Any, ...], shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """A convolution of x, of a shape and of the weight's type.

    Args:
        where: padding, stride, dilation and groups.
        shape: of x.
    """
    ops = torch.ops.mkldnn
    kept = ops._reorder_convolution_weight(weight, *where, shape)

    def convolve(x: Tensor) -> Tensor:
        return ops._convolution_pointwise(x, kept, bias, *where, "none", [], "")  # type: ignore[no-any-return]

    return convolve
