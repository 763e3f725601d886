"""tdBN with the statistics of a batch that is divided among processes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from lsgcli.neurons.kernels.base import NormParameters

Gather = Callable[[Tensor], Tensor]  # (...) -> (processes, ...), equal in all processes


def combined(n: int, mean: Tensor, variance: Tensor, gather: Gather) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values, mean and variance over all processes, (C,) float64, from the values of this process; free of cancellation."""
    counts, means, variances = gather(torch.stack([torch.full_like(mean, n), mean, variance])).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return total, mean, (counts * (variances + (means - mean).square())).sum(0) / total


class SynchronisedNorm(torch.autograd.Function):
    """tdBN of (T, B, C, ...) in plain torch, as :func:`lsgcli.neurons.kernels.base.normalise`, with the statistics of all processes."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, norm: "NormParameters") -> Tensor:
        assert norm.gather is not None
        axes = [axis for axis in range(z.dim()) if axis != 2]
        x = z.to(torch.promote_types(z.dtype, torch.float32))
        variance, mean = torch.var_mean(x, axes, correction=0)
        n, mean, variance = combined(x[:, :, 0].numel(), mean.double(), variance.double(), norm.gather)
        norm.update_running(n, mean, variance)
        inverse = (variance + norm.eps).rsqrt()
        scale = (weight.double() * norm.scale * inverse).to(x.dtype)
        ctx.save_for_backward(z, scale, mean.to(x.dtype), inverse)
        ctx.norm, ctx.n, ctx.axes = norm, n, axes
        return ((x - over(mean, x)) * over(scale, x) + over(bias, x)).to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        z, scale, mean, inverse = ctx.saved_tensors
        g, distance = grad.to(mean.dtype), z.to(mean.dtype) - over(mean, z)
        own = torch.stack([g.sum(ctx.axes, dtype=torch.float64), (g * distance).sum(ctx.axes, dtype=torch.float64)])
        always, by_distance = ctx.norm.gather(own).sum(0) / ctx.n
        dz = (g - over(always, g) - distance * over(by_distance * inverse.square(), g)) * over(scale, g)
        weight = own[1] * inverse * ctx.norm.scale
        return dz.to(z.dtype), weight.to(ctx.norm.weight.dtype), own[0].to(ctx.norm.bias.dtype), None


def over(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped and typed to broadcast over (T, B, C, ...)."""
    return vector.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 3))
