"""The convolution of all networks: torch's, with a workaround for a bug of oneDNN."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAFE = 8  # input channels from which oneDNN is correct


class Conv2d(nn.Conv2d):
    """A convolution, (N, C, H, W) -> (N, C', H', W').

    For a 1x1 kernel of stride s and C < 8, it selects every s-th pixel and convolves with stride 1, which gives the same result. With fewer
    than 8 channels in channels-last memory, the backward pass of oneDNN for such a kernel writes outside its buffers (torch 2.13,
    processors with AVX2).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size != (1, 1) or self.stride == (1, 1) or self.in_channels >= SAFE:
            return super()._conv_forward(x, weight, bias)
        x = x[..., :: self.stride[0], :: self.stride[1]].contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias)
