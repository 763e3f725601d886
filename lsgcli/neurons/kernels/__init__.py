"""Backends of the LIF sequence, alone or behind tdBN: one file each, all with the same contract.

A backend is an instance of a subclass of :class:`Backend`, registered by its name. Calling it runs the neurons; ``normalise_and_fire``
runs tdBN, the neurons and average pooling together, which is what a backend may fuse into fewer passes over memory.

Every backend gives the gradient that ``lsgcli.neurons.lif`` states. The membrane potential is kept in float32 or better,
whatever the type of the current. ``p.beta`` broadcasts against one timestep, ``p.alpha`` against the
current. Where ``p.measured`` is given, a backend adds the moments of u to it (see ``LIFParameters``).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lsgcli.errors import ConfigError
from lsgcli.neurons.step import LIFParameters


class NormParameters(NamedTuple):
    """What tdBN does to its input; (C,) each where not said otherwise.

    Attributes:
        weight: gamma.
        bias: mu.
        running_mean: of the input; updated in place in training, used in evaluation.
        running_var: likewise, unbiased.
        training: whether the statistics are those of the input itself.
        momentum: weight of the input in the running statistics.
        eps: added to the variance.
        scale: eta * v_th.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    training: bool
    momentum: float
    eps: float
    scale: float


class Backend(ABC):
    """One way to run a layer of neurons over a whole sequence."""

    def check(self, device: torch.device) -> None:
        """See that it can run on that device, with what is installed.

        Raises:
            ConfigError: it cannot; says what is missing.
        """
        return None

    def available(self, device: torch.device) -> bool:
        """Whether :meth:`check` finds nothing missing; ``auto`` asks."""
        try:
            self.check(device)
        except ConfigError:
            return False
        return True

    @abstractmethod
    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the shape and type of ``current``.

        Args:
            current: I, time first, of any floating type, any shape and any layout in memory.
            p: of the layer.
            overwrite: permits reuse of the current's memory, whose values are then lost.
        """

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """Average pooling of the spikes of the current tdBN(z) + residual, of z's type: (T, B, C, H / pool, W / pool), rounded down.

        Here one operation after the other: the definition that the others are compared with.

        Args:
            z: a convolution's output, (T, B, C, H, W), that nobody else reads: its memory may be reused, and within
                :func:`single_backward` also for its own gradient.
            norm: of the tdBN; None where there is none, as when it is folded into the convolution.
            p: of the neurons.
            residual: a second current, shaped like z.
            pool: side of the pooling window, and its stride.
        """
        current = z if norm is None else normalise(z, norm)
        spikes = self(current if residual is None else current + residual, p, overwrite=True)
        return spikes if pool == 1 else average(spikes, pool)


SINGLE_BACKWARD = ContextVar("SINGLE_BACKWARD", default=False)


@contextmanager
def single_backward(promised: bool = True) -> Iterator[None]:
    """What is computed within will have one backward pass, so that gradients may take the place of what was kept for them.

    A second pass, over a graph that was retained, ends in a RuntimeError; and whoever kept a convolution's output, as a hook may,
    finds its gradient there afterwards.

    Args:
        promised: False to compute within such a context what will have several.
    """
    token = SINGLE_BACKWARD.set(promised)
    try:
        yield
    finally:
        SINGLE_BACKWARD.reset(token)


def is_tracing(x: Tensor) -> bool:
    """Whether somebody follows tensors through the program, to export or to compile it, and has to see operations of torch."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in (Tensor, nn.Parameter):  # type: ignore[attr-defined]
        return True
    return _get_current_dispatch_mode() is not None


def normalise(z: Tensor, norm: NormParameters) -> Tensor:
    """tdBN of (T, B, C, ...); updates the running statistics in training."""
    out = F.batch_norm(
        z.flatten(0, 1),
        norm.running_mean,
        norm.running_var,
        norm.weight * norm.scale,
        norm.bias,
        training=norm.training,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    return out.unflatten(0, z.shape[:2])


def average(spikes: Tensor, pool: int) -> Tensor:
    """Average pooling over windows of ``pool`` x ``pool`` positions: (T, B, C, H, W) -> (T, B, C, H / pool, W / pool)."""
    return F.avg_pool2d(spikes.flatten(0, 1), pool).unflatten(0, spikes.shape[:2])
