"""The convolution of all networks: torch's, or one that adds a row of weights for each spike and multiplies no zeros.

Which of the two computes, for the output and for the gradient of the weight, depends on the setting ``synapses``:

    dense    torch's
    spikes   by spikes, if the input consists of spikes
    auto     by spikes, if the density of spikes in the input, their number per element, is below the crossing of the layer

A crossing is the density at which both take the same time, see :mod:`lsgcli.models.crossings`. The gradient of the input is always torch's,
because dL/dz has no zeros. The sums differ by rounding.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsgcli.config.machine import MachineConfig
from lsgcli.models import crossings
from lsgcli.neurons.kernels.base import is_tracing
from lsgcli.neurons.kernels.saved import Held, held, in_bits
from lsgcli.system.device import CONVOLUTIONS, Convolutions, convolved, limited_threads, pick_synapses

if TYPE_CHECKING:
    from lsgcli.neurons.kernels.cpu.packing import Packed
    from lsgcli.neurons.kernels.cpu.rows import Geometry

SMALL = 1 << 24  # multiplications, which take a thread 0.1 to 0.4 ms
WAITS = 64  # inputs in inference, of one of which spikes are counted while dense convolutions are faster
usable = cache(pick_synapses)  # warns once
SAFE = 8  # input channels from which oneDNN is correct


@contextmanager
def synapses(choice: str) -> Iterator[None]:
    """Context in which networks of lsg compute their convolutions and linear layers as ``lsg train --synapses`` does, on CPUs.

    ::

        with lsg.synapses("auto"):
            loss = F.cross_entropy(network(x).mean(0), labels)
        loss.backward()

    Args:
        choice: ``dense``; ``spikes``, adding a row of weights for each spike; or ``auto``, the faster of both for each layer and its
            density of spikes, from times that are measured once on a processor. The result is the same up to rounding.

    Raises:
        ConfigError: the choice is another.
    """
    settings = MachineConfig(synapses=choice)
    with convolved(Convolutions(settings.synapses)):
        yield


convolutions = synapses  # its former name


class Conv2d(nn.Conv2d):
    """A convolution, (N, C, H, W) -> (N, C', H', W').

    For a 1x1 kernel of stride s and C < 8, it selects every s-th pixel and convolves with stride 1, which gives the same result. With fewer
    than 8 channels in channels-last memory, the backward pass of oneDNN for such a kernel writes outside its buffers (torch 2.13,
    processors with AVX2).

    Attributes:
        waits: number of inputs in inference for which ``auto`` is dense without counting their spikes.
    """

    waits = 0

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (by := by_spikes(self, x)) is not None:
            dtype = computed_in(x)
            with torch.autocast("cpu", enabled=False):
                return _BySpikes.apply(x, weight.to(dtype), None if bias is None else bias.to(dtype), by)  # type: ignore[no-any-return]
        if not is_small(self, x):
            return self._dense(x, weight, bias)
        threads = torch.get_num_threads()
        with limited_threads(1):
            z = self._dense(x, weight, bias)
        if z.grad_fn is not None:
            z.grad_fn.register_prehook(lambda grads: torch.set_num_threads(1))
            z.grad_fn.register_hook(lambda *grads: torch.set_num_threads(threads))
        return z

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if is_linear(self, x):
            return _linear(x, weight, bias)
        if is_safe(self):
            return super()._conv_forward(x, weight, bias)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        x = F.pad(x, self._reversed_padding_repeated_twice, mode)
        x = x[..., :: self.stride[0], :: self.stride[1]].contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, groups=self.groups)


def computed_in(x: Tensor) -> torch.dtype:
    """The type in which a convolution of x computes on a CPU: that of autocast if it is enabled."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def is_small(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution of x in training is computed by one thread.

    Of so few multiplications, several threads take as long, and much longer beside other programs: in the gradient of the weight, oneDNN's
    threads wait for each other by spinning, which lasts while one of them has no processor, in bfloat16 up to once for each image.
    """
    if not torch.is_grad_enabled() or is_tracing(x) or x.device.type != "cpu":
        return False
    pixels = x.shape[0] * x.shape[2] * x.shape[3] // (conv.stride[0] * conv.stride[1])
    return pixels * conv.weight.numel() < SMALL


def is_linear(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution of x is a linear layer, as in the network ``mlp``: its images, and its kernel, have one pixel.

    As a linear layer, it takes a third to a quarter of the time. Traced programs, and so exports, have the convolution.
    """
    one_pixel = x.shape[-2:] == conv.kernel_size == (1, 1)
    return one_pixel and conv.padding == (0, 0) and conv.groups == 1 and not is_tracing(x)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of one-pixel images with a kernel of one pixel, (N, C, 1, 1) -> (N, C', 1, 1)."""
    return F.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]


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


def by_spikes(conv: "Conv2d", x: Tensor) -> Spikes | None:
    """The spikes of x for a convolution by spikes; None if it is dense."""
    if is_tracing(x):  # torch.compile cannot read context variables
        return None
    how = CONVOLUTIONS.get()
    in_training = torch.is_grad_enabled()
    counts = how.choice == "auto" and not in_training  # only to choose; in training, spikes are kept in bits anyway
    if counts and conv.waits:
        vars(conv)["waits"] -= 1  # Module.__setattr__ is slow
        return None
    if (read := spikes_read(conv, x)) is None:
        return None
    kept, geometry = read
    of_forward = of_weight = math.inf
    if how.choice == "auto":
        of_forward, of_weight = crossings.of(geometry, x.dtype, how.crossings)
    if (in_training or of_forward > 0) and (packed := kept.packed(x)) is not None:
        forward = packed.density < of_forward
        weight = in_training and packed.density < of_weight and conv.weight.requires_grad
        if forward or weight:
            return Spikes(packed, geometry, forward, weight)
    conv.waits = WAITS - 1 if counts else 0
    return None


def spikes_read(conv: nn.Conv2d, x: Tensor) -> "tuple[Held, Geometry] | None":
    """The spikes that a convolution of x reads, and its geometry; None if it is always dense."""
    if usable(CONVOLUTIONS.get().choice, x.device, "fp32") == "dense":
        return None
    kept = held(x)
    if kept is None and is_linear(conv, x):
        kept = Held(x, 1)  # frames of events are spikes too, which the packing finds out
    if kept is None or not in_bits(x) or not is_safe(conv):
        return None
    if not x.is_contiguous(memory_format=torch.channels_last):
        return None
    if conv.groups != 1 or conv.padding_mode != "zeros" or conv.dilation != (1, 1):
        return None
    geometry = geometry_of(x.shape, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    return None if geometry is None else (kept, geometry)


@cache
def geometry_of(shape: torch.Size, channels: int, kernel: Any, strides: Any, paddings: Any) -> "Geometry | None":
    """The geometry of a convolution; None if kernel, stride or padding are not square, which the kernels do not compute.

    Args:
        shape: of the input.
        channels: of the output.
        kernel, strides, paddings: (height, width) of each, or "same" or "valid".
    """
    from lsgcli.neurons.kernels.cpu.rows import Geometry

    if not len({*kernel}) == len({*strides}) == len({*paddings}) == 1:
        return None
    N, C, H, W = shape
    size = kernel[0]
    stride = strides[0]
    padding = paddings[0]
    height, width = ((n + 2 * padding - size) // stride + 1 for n in (H, W))
    return Geometry(N, H, W, C, height, width, channels, size, stride, padding)


class _BySpikes(torch.autograd.Function):
    """The convolution of x in the type of the weight; x is saved for backward as packed spikes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, by: Spikes) -> Tensor:
        from lsgcli.neurons.kernels.cpu import rows

        # As a tensor, so that activation checkpointing can drop it.
        ctx.save_for_backward(weight, by.packed.planes)
        ctx.by = by._replace(packed=by.packed._replace(planes=None))  # type: ignore[arg-type]
        if by.forward:
            added = None if bias is None else bias.float()
            return rows.convolved(by.packed, by.geometry, rows.rows_of(weight), weight.dtype, added)
        if by.geometry.is_linear:
            return _linear(x.to(weight.dtype), weight, bias)
        return F.conv2d(x.to(weight.dtype), weight, bias, by.geometry.stride, by.geometry.padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        from lsgcli.neurons.kernels.cpu.rows import weight_gradient

        weight, planes = ctx.saved_tensors
        packed, g, _, by_spikes = ctx.by
        packed = packed._replace(planes=planes)
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        dense = needs_weight and not by_spikes
        d_x = d_weight = None
        if g.is_linear:
            if needs_x:
                d_x = (grad.flatten(1) @ weight.flatten(1))[..., None, None]
            if dense:
                d_weight = (grad.flatten(1).t() @ packed.restore().view(g.N, g.C))[..., None, None]
        elif needs_x or dense:
            geometry = ((g.stride, g.stride), (g.padding, g.padding), (1, 1), False, (0, 0), 1)
            # The gradient of the input depends on the shape of x only, and its memory order on that of x.
            x = packed.restore() if dense else weight.new_empty(packed.n)
            x = x.view(g.N, g.H, g.W, g.C).permute(0, 3, 1, 2)
            d_x, d_weight, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, (needs_x, dense, False))
        if needs_weight and by_spikes:
            d_weight = weight_gradient(packed, g, grad).to(weight.dtype)
        return d_x, d_weight, grad.sum((0, 2, 3)) if needs_bias else None, None


class PrepackedConv2d(Conv2d):
    """A convolution with constant weights, which it rearranges once.

    Attributes:
        rows: of the weight, and the bias, in each type, for convolutions by spikes.
        dense: the dense convolution of the latest type and shape of the input.
    """

    rows: dict[torch.dtype, tuple[Tensor, Tensor | None]]
    dense: tuple[Any, Callable[[Tensor], Tensor]] | None

    def forward(self, input: Tensor) -> Tensor:
        """As a plain convolution, in the type of autocast if it is enabled."""
        dtype = computed_in(input)
        weight = self.weight
        bias = self.bias
        if (by := by_spikes(self, input)) is not None and by.forward:
            from lsgcli.neurons.kernels.cpu.rows import convolved, rows_of

            if dtype not in self.rows:
                self.rows[dtype] = rows_of(weight.to(dtype)), None if bias is None else bias.to(dtype).float()
            own, added = self.rows[dtype]
            return convolved(by.packed, by.geometry, own, dtype, added)
        if not crossings.reorders(input, dtype):
            return super().forward(input)
        key = input.shape, dtype
        if self.dense is None or self.dense[0] != key:
            where = (self.padding, self.stride, self.dilation, self.groups)
            own_bias = None if bias is None else bias.to(dtype)
            self.dense = key, crossings.reordered(weight.to(dtype), own_bias, where, input.shape)
        return self.dense[1](input.to(dtype))


def prepack(network: nn.Module) -> None:
    """Let all plain convolutions of a network in evaluation mode rearrange their weights once, in place."""
    for module in network.modules():
        if type(module) in (nn.Conv2d, Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.__class__ = PrepackedConv2d
            module.rows = {}  # type: ignore[assignment]
            module.dense = None  # type: ignore[assignment]
