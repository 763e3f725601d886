"""Random numbers of layers in training, as functions of seed, epoch, sample, layer and position, like those of ``lsgcli.data.random``.

They do not depend on the device, on how a batch is divided, or on the step at which a run is resumed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def _signed(number: int) -> int:
    """The lowest 64 bits of a number as torch's int64, whose arithmetic wraps around."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


GAMMA = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
FIRST, SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


class Draws(nn.Module):
    """Base of layers that may draw random numbers in training.

    Attributes:
        samples: (B,) int64, a random number of this layer for each sample; None: numbers are drawn from torch's generator.
    """

    samples: Tensor | None = None

    @property
    def draws(self) -> bool:
        """Whether the layer draws random numbers in training."""
        raise NotImplementedError

    def uniforms(self, x: Tensor, t: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape of x (B, ...), different for each ``t``, in float32 if x has fewer bits."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.samples is None:
            return torch.rand_like(x, dtype=dtype)
        n = x.shape[1:].numel()
        position = torch.arange(t * n + 1, (t + 1) * n + 1, device=x.device)
        bits = mixed(self.samples[:, None] + position * GAMMA)
        return ((bits >> 40) & 0xFFFFFF).to(dtype).mul_(2.0**-24).view(x.shape)

    def dropped(self, x: Tensor, p: float, t: int = 0) -> Tensor:
        """x (T, B, ...) with elements set to 0 with probability p, the same at all timesteps, and the others divided by 1 - p.

        ``t`` as for :meth:`uniforms`.
        """
        return x * ((self.uniforms(x[0], t) >= p).to(x.dtype) / (1 - p))


@contextmanager
def drawing(net: nn.Module, samples: Tensor | None) -> Iterator[None]:
    """Context for a forward and backward pass in which the layers of ``net`` draw random numbers for these samples.

    Args:
        samples: (B,) int64, a random number for each sample, as :func:`lsgcli.data.random.numbers`; None for torch's generator.
    """
    layers = [module for module in net.modules() if isinstance(module, Draws) and module.draws]
    for index, layer in enumerate(layers, start=1):
        layer.samples = None if samples is None else mixed(samples + _signed(index * GAMMA))
    try:
        yield
    finally:
        for layer in layers:
            layer.samples = None


def mixed(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, elementwise on int64; see ``lsgcli.data.random``."""
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of z, (...) int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
