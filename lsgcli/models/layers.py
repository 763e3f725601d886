"""Layers over time: convolutions that see (T, B) as one batch, and convolution + tdBN with or without neurons."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lsgcli.models.base import CHECKPOINTING, NetworkSpec, SpikingLayer
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.neurons.kernels import is_tracing


def over_time(module: nn.Module, x: Tensor, levels: int | None = None) -> Tensor:
    """Apply a module of (N, C, H, W) to (T, B, C, H, W), in channels-last memory.

    Args:
        module: keeps its input for the backward pass, if it wants to.
        x: its input.
        levels: where given, every element of x is one of 0, 1/levels, 2/levels, ... up to 255/levels, and is kept as one byte.
    """
    flat = x.flatten(0, 1)
    if flat.dim() == 4:
        flat = flat.contiguous(memory_format=torch.channels_last)
    keeps = levels is not None and torch.is_grad_enabled() and not CHECKPOINTING.get() and not is_tracing(flat)
    with _saved_as_bytes(flat, levels) if keeps and levels is not None else nullcontext():
        return module(flat).unflatten(0, x.shape[:2])


def _saved_as_bytes(x: Tensor, levels: int) -> AbstractContextManager[Any]:
    """What an operation in this context keeps of x is one byte an element; ``levels`` is a power of two, so nothing is lost."""

    def pack(kept: Tensor) -> Any:
        if kept.data_ptr() != x.data_ptr() or kept.shape != x.shape:
            return kept
        return (kept if levels == 1 else kept * levels).to(torch.uint8), kept.dtype

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        x = kept[0].to(kept[1])
        return x if levels == 1 else x.div_(levels)

    return saved_tensors_hooks(pack, unpack)


class ConvNorm(nn.Module):
    """Convolution without bias, then tdBN: (T, B, C, H, W) -> (T, B, C', H', W').

    Args:
        spec: of the network; gives the threshold.
        in_channels: C.
        out_channels: C'.
        kernel: side of the square kernel; padding keeps the size at stride 1.
        stride: of the convolution.
        eta: of the tdBN; 1/sqrt(2) where two branches are summed.
        levels: where the input is spikes, or averages of ``levels`` of them: it is kept for the backward pass as bytes then.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        eta: float = 1.0,
        levels: int | None = None,
    ):
        super().__init__()
        self.levels = levels
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm: nn.Module = TdBatchNorm2d(out_channels, threshold=spec.threshold, eta=eta)

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """Normalised currents. A static image, (1, B, C, H, W) with ``T`` > 1, is convolved once and repeated after."""
        return self.norm(self.convolved(x, T))

    def convolved(self, x: Tensor, T: int | None = None) -> Tensor:
        """The convolution's output, which the tdBN has yet to see."""
        z = over_time(self.conv, x, self.levels)
        return z.expand(T, *z.shape[1:]) if T is not None and len(z) != T else z


class SpikingConv(nn.Module):
    """Convolution, tdBN, LIF and, where ``pool`` > 1, average pooling of the spikes."""

    def __init__(
        self,
        spec: NetworkSpec,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        pool: int = 1,
        levels: int | None = None,
    ):
        super().__init__()
        self.current = ConvNorm(spec, in_channels, out_channels, kernel=kernel, stride=stride, levels=levels)
        self.lif: LIF = spec.lif(out_channels, self.current.norm)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else None

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """(T, B, C, H, W) -> spikes, or their averages, (T, B, C', H', W')."""
        return normalise_and_fire(self.current.norm, self.current.convolved(x, T), self.lif, pool=self.pool)

    def spiking_layer(self, name: str) -> SpikingLayer:
        """This block's neurons with the weights that feed them. (A pool must divide the image for its averages to have all spikes.)"""
        return SpikingLayer(name, self.lif, self.current.conv, self.current.norm, self)


def fire(lif: LIF, current: Tensor) -> Tensor:
    """Spikes of a current that nobody else reads, so that its memory may be reused."""
    return lif(current, overwrite=True)


def normalise_and_fire(
    norm: nn.Module, z: Tensor, lif: LIF, *, residual: Tensor | None = None, pool: nn.AvgPool2d | None = None
) -> Tensor:
    """Spikes of neurons behind a convolution's output z (T, B, C, H, W), averaged where there is a pool.

    The backend does all of it at once, except where hooks want to see what enters or leaves one of the modules.

    Args:
        norm: tdBN, or the identity where it is folded into the convolution.
        z: read by nobody else, so that its memory may be reused.
        lif: the neurons.
        residual: a second current, where another branch ends here too.
        pool: average pooling of the spikes.
    """
    modules = [norm, lif] if pool is None else [norm, lif, pool]
    if any(_has_hooks(module) for module in modules):
        current = norm(z)
        spikes = fire(lif, current if residual is None else current + residual)
        return spikes if pool is None else over_time(pool, spikes)
    parameters = None
    if type(norm) is TdBatchNorm2d:
        parameters = norm.parameters_for(z)
    elif not isinstance(norm, nn.Identity):
        z = norm(z)  # one of somebody else's
    return lif.normalise_and_fire(parameters, z, residual=residual, pool=1 if pool is None else _side(pool))


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks)


def _side(pool: nn.AvgPool2d) -> int:
    side = pool.kernel_size
    assert isinstance(side, int)
    return side
