"""The convolution of all networks: torch's, or one that adds a row of weights for each spike and multiplies no zeros.

Which of the two computes, for the output and for the gradient of the weight, depends on the setting ``convolution``:

    dense    torch's
    spikes   by spikes, if the input consists of spikes
    auto     by spikes, if the density of spikes in the input, their number per element, is below the crossing of the layer

A crossing is the density at which both take the same time, see :mod:`lsgcli.models.crossings`. The gradient of the input is always torch's,
because dL/dz has no zeros. The sums differ by rounding.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsgcli.models import crossings, prepacked
from lsgcli.neurons.kernels.base import is_tracing
from lsgcli.neurons.kernels.cpu.job import STORAGE
from lsgcli.neurons.kernels.saved import held, in_bits
from lsgcli.system.device import CONVOLUTIONS

if TYPE_CHECKING:
    from lsgcli.neurons.kernels.cpu.packing import Packed
    from lsgcli.neurons.kernels.cpu.rows import Geometry

SAFE = 8  # input channels from which oneDNN is correct


class Conv2d(nn.Conv2d):
    """A convolution, (N, C, H, W) -> (N, C', H', W').

    For a 1x1 kernel of stride s and C < 8, it selects every s-th pixel and convolves with stride 1, which gives the same result. With fewer
    than 8 channels in channels-last memory, the backward pass of oneDNN for such a kernel writes outside its buffers (torch 2.13,
    processors with AVX2).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (by := by_spikes(self, x)) is not None:
            dtype = computed_in(x)
            with torch.autocast("cpu", enabled=False):
                z = _BySpikes.apply(x, weight.to(dtype), by)
                return z if bias is None else z + bias.to(dtype)[:, None, None]  # type: ignore[no-any-return]
        if is_safe(self):
            return super()._conv_forward(x, weight, bias)
        x = x[..., :: self.stride[0], :: self.stride[1]].contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias)


def computed_in(x: Tensor) -> torch.dtype:
    """The type in which a convolution of x computes on a CPU: that of autocast if it is enabled."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def is_safe(conv: nn.Conv2d) -> bool:
    """Whether oneDNN's backward pass of a convolution writes only inside its buffers."""
    return conv.kernel_size != (1, 1) or conv.stride == (1, 1) or conv.in_channels >= SAFE


class Spikes(NamedTuple):
    """The spikes that a convolution reads, and what it computes by them.

    Attributes:
        packed: the input.
        geometry: of the convolution.
        forward: whether its output is computed by spikes.
        weight: whether the gradient of its weight is.
    """

    packed: "Packed"
    geometry: "Geometry"
    forward: bool
    weight: bool


def by_spikes(conv: nn.Conv2d, x: Tensor) -> Spikes | None:
    """The spikes of x for a convolution by spikes; None if it is dense."""
    if is_tracing(x):  # torch.compile cannot read context variables
        return None
    how, kept = CONVOLUTIONS.get(), held(x)
    if how.choice == "dense" or kept is None or not supported(conv, x):
        return None
    from lsgcli.neurons.kernels.cpu.rows import Geometry

    size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    height, width = ((n + 2 * padding - size) // stride + 1 for n in x.shape[2:])
    N, C, H, W = x.shape
    geometry = Geometry(N, H, W, C, height, width, conv.out_channels, size, stride, padding)
    packed = kept.packed(x)
    if how.choice == "spikes":
        return Spikes(packed, geometry, True, True)
    forward, weight = (packed.density < crossing for crossing in crossings.of(geometry, x.dtype, how.crossings))
    weight = weight and torch.is_grad_enabled() and conv.weight.requires_grad
    return Spikes(packed, geometry, forward, weight) if forward or weight else None


def supported(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the kernels compute the convolution, and torch safely those gradients that they do not."""
    square = len({*conv.kernel_size}) == len({*conv.stride}) == len({*conv.padding}) == 1
    plain = conv.groups == 1 and {*conv.dilation} == {1} and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and square and is_safe(conv) and x.dtype in STORAGE and in_bits(x)


class _BySpikes(torch.autograd.Function):
    """The convolution of x, without bias, in the type of the weight; x is saved for backward as packed spikes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, by: Spikes) -> Tensor:
        from lsgcli.neurons.kernels.cpu import rows

        # As a tensor, so that activation checkpointing can drop it.
        ctx.save_for_backward(weight, by.packed.planes)
        ctx.by, ctx.shape = by._replace(packed=by.packed._replace(planes=None)), x.shape  # type: ignore[arg-type]
        if by.forward:
            return rows.convolved(by.packed, by.geometry, rows.rows_of(weight), weight.dtype)
        return F.conv2d(x.to(weight.dtype), weight, None, by.geometry.stride, by.geometry.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        from lsgcli.neurons.kernels.cpu.rows import weight_gradient

        weight, planes = ctx.saved_tensors
        packed, g, _, by_spikes = ctx.by
        packed = packed._replace(planes=planes)
        needs_x, needs_weight, _ = ctx.needs_input_grad
        dense = needs_weight and not by_spikes
        d_x = d_weight = None
        if needs_x or dense:
            geometry = ((g.stride, g.stride), (g.padding, g.padding), (1, 1), False, (0, 0), 1)
            # The gradient of the input depends on the shape of x only.
            x = packed.restore().view(g.N, g.H, g.W, g.C).permute(0, 3, 1, 2) if dense else weight.new_empty(ctx.shape)
            d_x, d_weight, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, (needs_x, dense, False))
        if needs_weight and by_spikes:
            d_weight = weight_gradient(packed, g, grad).to(weight.dtype)
        return d_x, d_weight, None


class PrepackedConv2d(Conv2d):
    """A convolution with constant weights, which it rearranges once.

    Attributes:
        dense: shape and type of the latest input, and the convolution for it; None before the first call.
        rows: rows of the weight in a type, for convolutions by spikes; None before the first one.
    """

    dense: tuple[tuple[torch.Size, torch.dtype], Callable[[Tensor], Tensor]] | None
    rows: tuple[torch.dtype, Tensor] | None

    def forward(self, input: Tensor) -> Tensor:
        """As a plain convolution, in the type of autocast if it is enabled."""
        dtype = computed_in(input)
        if (by := by_spikes(self, input)) is not None and by.forward:
            from lsgcli.neurons.kernels.cpu import rows

            if self.rows is None or self.rows[0] != dtype:
                self.rows = dtype, rows.rows_of(self.weight.to(dtype))
            z = rows.convolved(by.packed, by.geometry, self.rows[1], dtype)
            return z if self.bias is None else z.add_(self.bias.to(dtype)[:, None, None])
        if not prepacked.supported(input, dtype):
            return super().forward(input)
        if self.dense is None or self.dense[0] != (input.shape, dtype):
            where, bias = (self.padding, self.stride, self.dilation, self.groups), self.bias
            convolve = prepacked.reordered(self.weight.to(dtype), None if bias is None else bias.to(dtype), where, input.shape)
            self.dense = (input.shape, dtype), convolve
        return self.dense[1](input.to(dtype))


def prepack(network: nn.Module) -> None:
    """Let all plain convolutions of a network in evaluation mode rearrange their weights once, in place."""
    for module in network.modules():
        if type(module) in (nn.Conv2d, Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__, module.dense, module.rows = PrepackedConv2d, None, None  # type: ignore[assignment]
