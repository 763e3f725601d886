"""Description of the dynamics of a layer of neurons, and recomputation of its membrane potentials.

    u[t] = decay * reset(u[t-1], o[t-1]) + gain * I[t]     u = o = 0 before the first step
    o[t] = 1 if u[t] >= v_th else 0                        (or u[t] > v_th)

Potentials are computed in blocks of few samples, which stay in the CPU cache where one sample does.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsgcli.neurons.step import RESETS, over_time
from lsgcli.neurons.surrogates import Surrogate
from lsgcli.system.device import limited_threads

ELEMENTS = 1 << 18  # per block, over all timesteps
AFTER_DECAY = "soft-after-decay"


class Dynamics(NamedTuple):
    """Dynamics of a layer of neurons.

    Attributes:
        decay: factor on the potential per timestep: a number, or a tensor that broadcasts against I[t].
        threshold: firing threshold v_th, above the resting potential, which is 0: a number, or a tensor, ().
        width: alpha, equivalent width of the surrogate (area over peak), in units of u: a number, or a tensor that broadcasts against
            I, (T, ...).
        surrogate: h(u - v_th, width), which replaces do/du in the backward pass.
        reset: a key of :data:`~lsgcli.neurons.step.RESETS`; ``soft-after-decay``: decay * u - v_th * o, the threshold is subtracted after
            the decay; or a function of u[t-1], o[t-1] and the dynamics, which returns their contribution to u[t].
        gain: factor on the current.
        strict: whether a neuron exactly at the threshold does not fire.
        detach: whether the gradient through the spikes in the reset is omitted.
    """

    decay: Tensor
    threshold: float | Tensor
    width: Tensor
    surrogate: Surrogate
    reset: str | Callable[[Tensor, Tensor, Any], Tensor] = "hard"
    gain: float = 1.0
    strict: bool = False
    detach: bool = False

    def carry(self, u: Tensor, o: Tensor) -> Tensor:
        """Contribution of the previous timestep to the next potential."""
        if callable(self.reset):
            return self.reset(u, o, self)
        if self.reset == AFTER_DECAY:
            return self.decay * u - self.threshold * o
        return self.decay * RESETS[self.reset].remains(u, o, self.threshold)

    def fires(self, u: Tensor, out: Tensor) -> Tensor:
        """Spikes as 0 and 1, written to ``out``."""
        return torch.gt(u, self.threshold, out=out) if self.strict else torch.ge(u, self.threshold, out=out)


class LayerInput(NamedTuple):
    """Input of a layer in one forward pass.

    Attributes:
        x: (T, B, C, ...): the current, or the input of its normalisation.
        p: dynamics of the layer.
        scale, shift: (C,); the current is scale * x + shift. None if x is the current.
        residual: a second current, with the shape of x.
        side: size of the pooling window behind the neurons.
    """

    x: Tensor
    p: Dynamics
    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    side: int = 1


class Block(NamedTuple):
    """A layer's neurons in some samples, at all timesteps; tensors are (T, samples, ..., C).

    Attributes:
        samples: slice of the batch.
        current: I.
        u: membrane potential before the reset.
        o: spikes, 0 and 1.
        p: dynamics of these neurons.
    """

    samples: slice
    current: Tensor
    u: Tensor
    o: Tensor
    p: Dynamics


def laid(x: Tensor) -> Tensor:
    """(T, B, C, H, ...) -> (T, B, H, ..., C), a view; missing axes have size 1."""
    if x.dim() > 3:
        return x.movedim(2, -1)
    while x.dim() < 3:
        x = x.unsqueeze(-1)
    return x.unsqueeze(2)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run small operations on one thread and without gradients.

    torch divides each operation among its threads. For blocks that fit into the cache, threads would wait for each other longer than
    they compute, particularly on a busy machine.
    """
    with limited_threads(1), torch.no_grad():
        yield


def blocks(given: LayerInput) -> Iterator[Block]:
    """The blocks of a layer, in order, with their potentials and spikes; for a loop within :func:`one_thread`."""
    x = given.x
    p = given.p
    T, B, *sizes = laid(x).shape
    count = max(1, ELEMENTS // max(1, T * math.prod(sizes)))  # samples
    for begin in range(0, B, count):
        samples = slice(begin, begin + count)
        some = laid(x[:, samples])
        wide = torch.promote_types(some.dtype, torch.float32)
        current = torch.empty(some.shape, dtype=wide, device=some.device)
        if given.scale is None or given.shift is None:
            current.copy_(some)
        else:
            torch.addcmul(given.shift, some.to(wide), given.scale, out=current)
        if given.residual is not None:
            current += laid(given.residual[:, samples])
        decay, width = (_of(parameter, x.dim(), samples) for parameter in (p.decay, p.width))
        here = p._replace(decay=decay[0] if decay.dim() else decay, width=width)
        yield Block(samples, current, *integrate(current, here), here)


def heights(given: LayerInput) -> Tensor:
    """gain * h(u - v_th), (T, B, ...), in the memory format of x."""
    result = torch.empty_like(given.x, dtype=torch.promote_types(given.x.dtype, torch.float32))
    room = laid(result)
    with one_thread():
        for block in blocks(given):
            h = given.p.surrogate(block.u - given.p.threshold, block.p.width)
            room[:, block.samples] = h * given.p.gain
    return result


def integrate(current: Tensor, p: Dynamics) -> tuple[Tensor, Tensor]:
    """Membrane potentials and spikes for a current, (T, ...) each."""
    u = torch.empty_like(current)
    o = torch.empty_like(current)
    for t in range(len(current)):
        if t == 0:
            torch.mul(current[0], p.gain, out=u[0])
        else:
            torch.add(p.carry(u[t - 1], o[t - 1]), current[t], alpha=p.gain, out=u[t])
        p.fires(u[t], out=o[t])
    return u, o


def _of(parameter: Tensor, dimensions: int, samples: slice) -> Tensor:
    """The part of a parameter that belongs to a block: a scalar, or (T or 1, ...) in the layout of :func:`laid`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    full = laid(over_time(parameter, dimensions))
    return full[:, samples] if full.shape[1] > 1 else full
