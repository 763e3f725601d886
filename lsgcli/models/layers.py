"""Layers over time: convolutions that see (T, B) as one batch, and convolution + tdBN with or without neurons."""

import torch
from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, SpikingLayer
from lsgcli.neurons import LIF, TdBatchNorm2d


def over_time(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module of (N, C, H, W) to (T, B, C, H, W), in channels-last memory."""
    flat = x.flatten(0, 1)
    if flat.dim() == 4:
        flat = flat.contiguous(memory_format=torch.channels_last)
    return module(flat).unflatten(0, x.shape[:2])


class ConvNorm(nn.Module):
    """Convolution without bias, then tdBN: (T, B, C, H, W) -> (T, B, C', H', W').

    Args:
        spec: of the network; gives the threshold.
        in_channels: C.
        out_channels: C'.
        kernel: side of the square kernel; padding keeps the size at stride 1.
        stride: of the convolution.
        eta: of the tdBN; 1/sqrt(2) where two branches are summed.
    """

    def __init__(
        self, spec: NetworkSpec, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, eta: float = 1.0
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm: nn.Module = TdBatchNorm2d(out_channels, threshold=spec.threshold, eta=eta)

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """Normalised currents. A static image, (1, B, C, H, W) with ``T`` > 1, is convolved once and repeated after."""
        z = over_time(self.conv, x)
        return self.norm(z.expand(T, *z.shape[1:]) if T is not None and len(z) != T else z)


class SpikingConv(nn.Module):
    """Convolution, tdBN, LIF and, where ``pool`` > 1, average pooling of the spikes."""

    def __init__(self, spec: NetworkSpec, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, pool: int = 1):
        super().__init__()
        self.current = ConvNorm(spec, in_channels, out_channels, kernel=kernel, stride=stride)
        self.lif: LIF = spec.lif()
        self.pool = nn.AvgPool2d(pool) if pool > 1 else None

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """(T, B, C, H, W) -> spikes, or their averages, (T, B, C', H', W')."""
        spikes = fire(self.lif, self.current(x, T))
        return spikes if self.pool is None else over_time(self.pool, spikes)

    def spiking_layer(self, name: str) -> SpikingLayer:
        """This block's neurons with the weights that feed them."""
        return SpikingLayer(name, self.lif, self.current.conv, self.current.norm)


def fire(lif: LIF, current: Tensor) -> Tensor:
    """Spikes of a current that nobody else reads, so that its memory may be reused."""
    return lif(current, overwrite=True)
