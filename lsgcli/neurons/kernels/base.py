"""Backends that compute LIF neurons over a sequence, optionally with tdBN and pooling: their common interface.

A backend is an instance of a subclass of :class:`Backend`, registered by name. Calling it runs the neurons; ``normalise_and_fire``
runs tdBN, the neurons and average pooling, which a backend may fuse into fewer passes over memory.

Every backend computes the gradient given in ``lsgcli.neurons.lif``. The membrane potential is held in float32 or higher precision,
regardless of the type of the current. ``p.beta`` broadcasts against one timestep, ``p.alpha`` against the current. If ``p.measured``
is given, the backend adds the moments of u to it (see ``LIFParameters``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lsgcli.errors import ConfigError
from lsgcli.neurons.step import LIFParameters

Gather = Callable[[Tensor], Tensor]  # (...) -> (processes, ...), equal in all processes


class NormParameters(NamedTuple):
    """Parameters of tdBN; tensors are (C,).

    Attributes:
        weight: gamma.
        bias: mu.
        running_mean: running mean of the input; updated in place in training, used in evaluation.
        running_var: running variance, unbiased; likewise.
        training: whether to normalise by the statistics of the input itself.
        momentum: weight of the input in the running statistics.
        eps: added to the variance.
        scale: eta * v_th.
        gather: returns the tensors of all processes among which the batch is divided; None for a single process.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    training: bool
    momentum: float
    eps: float
    scale: float
    gather: Gather | None = None

    def over_all(self, n: int) -> float:
        """Number of values per channel over all processes; this process has n."""
        if self.gather is None:
            return n
        return float(self.gather(torch.tensor(n, dtype=torch.float64, device=self.weight.device)).sum())

    @contextmanager
    def of_batch(self) -> "Iterator[NormParameters]":
        """Parameters whose running statistics become those of the batch in training; afterwards, those of this move towards them."""
        if not self.training:
            yield self
            return
        batch = self._replace(running_mean=self.running_mean.clone(), running_var=self.running_var.clone(), momentum=1.0)
        yield batch
        self.running_mean.lerp_(batch.running_mean, self.momentum)
        self.running_var.lerp_(batch.running_var, self.momentum)

    def update_running(self, n: float | Tensor, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch with n values per channel."""
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((variance * (n / (n - 1))).to(self.running_var.dtype), self.momentum)


class Backend(ABC):
    """An implementation of a layer of neurons over a sequence.

    Attributes:
        types: of currents whose intermediate results are of float32 or higher precision.
        compiles: whether each shape of a layer is compiled at first use, which takes seconds.
    """

    types: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    compiles = False

    def check(self, device: torch.device) -> None:
        """Check that the backend can run on ``device`` with the installed packages.

        Raises:
            ConfigError: it cannot; the message names what is missing.
        """
        return None

    def available(self, device: torch.device) -> bool:
        """Whether :meth:`check` passes."""
        try:
            self.check(device)
        except ConfigError:
            return False
        return True

    @abstractmethod
    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the shape and type of ``current``.

        Args:
            current: I, time first, of any floating type, shape and memory layout.
            p: parameters of the layer.
            overwrite: allow overwriting ``current``.
        """

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """Spikes of the current tdBN(z) + residual, average-pooled: (T, B, C, H / pool, W / pool), rounded down, of z's type.

        This default runs separate operations and defines the result for other implementations.

        Args:
            z: output of a convolution, (T, B, C, H, W), not used elsewhere: it may be overwritten, within
                :func:`single_backward` also by its own gradient.
            norm: parameters of tdBN; None without tdBN, for example if it is folded into the convolution.
            p: parameters of the neurons.
            residual: a second current, shaped like z, which is added.
            pool: size and stride of the pooling window.
        """
        return one_by_one(lambda current: self(current, p, overwrite=True), z, norm, residual, pool)


class Bytes(Backend):
    """Another backend with spikes as bytes (uint8), the input of integer convolutions; pooling returns sums over windows. Without gradients."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return self.backend(current, p, overwrite).to(torch.uint8)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        spikes = self.backend.normalise_and_fire(z, norm, p, residual=residual).to(torch.uint8)
        return spikes if pool == 1 else average(spikes, pool)


SINGLE_BACKWARD = ContextVar("SINGLE_BACKWARD", default=False)


@contextmanager
def single_backward(promised: bool = True) -> Iterator[None]:
    """Declare that a graph built in this context gets one backward pass, so that gradients may overwrite saved tensors.

    A second backward pass over a retained graph raises a RuntimeError. A tensor that was a convolution's output, for example
    one kept by a hook, contains its gradient after the backward pass.

    Args:
        promised: False to allow several backward passes inside such a context.
    """
    token = SINGLE_BACKWARD.set(promised)
    try:
        yield
    finally:
        SINGLE_BACKWARD.reset(token)


def is_tracing(x: Tensor) -> bool:
    """Whether the program is being traced, for example for export or compilation, so that only torch operations may be used."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in (Tensor, nn.Parameter):  # type: ignore[attr-defined]
        return True
    return _get_current_dispatch_mode() is not None


def combined(n: int, mean: Tensor, variance: Tensor, gather: Gather) -> tuple[Tensor, Tensor, Tensor]:
    """Number of values, mean and variance over all processes, (C,) float64, from the values of this process; free of cancellation."""
    counts, means, variances = gather(torch.stack([torch.full_like(mean, n), mean, variance])).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return total, mean, (counts * (variances + (means - mean).square())).sum(0) / total


class SynchronisedNorm(torch.autograd.Function):
    """tdBN of (T, B, C, ...) in plain torch, as :func:`normalise`, with the statistics of all processes."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, norm: NormParameters) -> Tensor:
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
        g = grad.to(mean.dtype)
        distance = z.to(mean.dtype) - over(mean, g)
        own = torch.stack([g.sum(ctx.axes, dtype=torch.float64), (g * distance).sum(ctx.axes, dtype=torch.float64)])
        always, by_distance = ctx.norm.gather(own).sum(0) / ctx.n
        dz = (g - over(always, g) - distance * over(by_distance * inverse.square(), g)) * over(scale, g)
        weight = own[1] * inverse * ctx.norm.scale
        return dz.to(z.dtype), weight.to(ctx.norm.weight.dtype), own[0].to(ctx.norm.bias.dtype), None


def over(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped and typed to broadcast over (T, B, C, ...)."""
    return vector.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 3))


def normalise(z: Tensor, norm: NormParameters) -> Tensor:
    """tdBN of (T, B, C, ...); updates the running statistics in training."""
    if norm.training and norm.gather is not None:
        return SynchronisedNorm.apply(z, norm.weight, norm.bias, norm)
    flat = z.flatten(0, 1)
    if flat.dim() > 3 and not is_tracing(z) and len(flat) == 1:
        flat = flat.flatten(2)  # with the strides of a channels-last image, torch's gradients of one sample are wrong on CPUs
    out = F.batch_norm(
        flat,
        norm.running_mean,
        norm.running_var,
        norm.weight * norm.scale,
        norm.bias,
        training=norm.training,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    return out.reshape(z.shape)


def one_by_one(
    fire: Callable[[Tensor], Tensor], z: Tensor, norm: NormParameters | None, residual: Tensor | None = None, pool: int = 1
) -> Tensor:
    """As :meth:`Backend.normalise_and_fire`, in separate operations; ``fire`` maps currents to spikes."""
    current = z if norm is None else normalise(z, norm)
    spikes = fire(current if residual is None else current + residual)
    return spikes if pool == 1 else average(spikes, pool)


def average(spikes: Tensor, pool: int) -> Tensor:
    """Average pooling with windows of ``pool`` x ``pool`` positions: (T, B, C, H, W) -> (T, B, C, H / pool, W / pool); for bytes, sums."""
    flat = spikes.flatten(0, 1)
    if spikes.dtype == torch.uint8:
        pooled = F.avg_pool2d(flat.float(), pool, divisor_override=1).to(torch.uint8)
    else:
        pooled = F.avg_pool2d(flat, pool)
    return pooled.unflatten(0, spikes.shape[:2])
