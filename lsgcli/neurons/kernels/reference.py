"""Backends in plain torch, for any device and floating type: ``reference``, and ``autograd``, the oracle for all others."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsgcli.neurons.kernels import Backend
from lsgcli.neurons.step import LIFParameters, initial_state, measure, over_time, step
from lsgcli.registry import register


class Autograd(Backend):
    """The equations of one step in a loop, with gradients by autograd: slow and simple; ``overwrite`` has no effect."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        wide = current.to(torch.promote_types(current.dtype, torch.float32))
        state, spikes = initial_state(wide[0]), []
        for current_t, p_t in zip(wide, p.each_step(wide), strict=True):
            o, state = step(current_t, state, p_t)
            if p.measured is not None:
                measure(p.measured, state.u)
            spikes.append(o)
        return torch.stack(spikes).to(current.dtype)


class Reference(Backend):
    """The whole sequence as one autograd function, which saves only the membrane potential for backward.

    A layer holds two activation-sized buffers, u and the spikes; with ``overwrite`` u is stored in the memory of the current.
    """

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return LIFSequence.apply(current, p.beta, p, overwrite)


class LIFSequence(torch.autograd.Function):
    """Forward integrates and fires step by step; backward iterates over the steps in reverse."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, beta: Tensor, p: LIFParameters, overwrite: bool) -> Tensor:
        """(T, ...) -> (T, ...)."""
        wide = torch.promote_types(current.dtype, torch.float32)
        reuse = overwrite and wide == current.dtype and not _repeats(current)
        membrane = current if reuse else torch.empty_like(current, dtype=wide)
        spikes = torch.empty_like(membrane, dtype=current.dtype)
        decay = beta.detach().to(wide)
        rest = torch.empty_like(membrane[0])
        for t in range(len(current)):
            u = membrane[t]
            if t > 0:
                before = membrane[t - 1]
                # u - u * o: the potential is 0 after a spike, otherwise it is carried over.
                torch.addcmul(before, before, spikes[t - 1].to(wide), value=-1, out=rest)
                torch.add(current[t], rest.mul_(decay), out=u)
            elif not reuse:
                u.copy_(current[t])
            torch.ge(u, p.threshold, out=spikes[t])
            if p.measured is not None:
                measure(p.measured, u)
        ctx.save_for_backward(membrane, beta, over_time(p.alpha, current.dim()))
        ctx.p, ctx.dtype = p, current.dtype
        ctx.set_materialize_grads(False)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Gradients of the current and of beta."""
        if grad is None:
            return None, None, None, None
        membrane, beta, alpha = ctx.saved_tensors
        decay = beta.to(membrane.dtype)
        alpha = alpha.to(membrane.dtype).expand(len(membrane), *alpha.shape[1:])
        d_current = torch.empty_like(membrane, dtype=ctx.dtype)
        d_beta = torch.zeros_like(beta, dtype=torch.promote_types(beta.dtype, membrane.dtype))
        carried: Tensor | None = None  # du[t+1]
        for t in reversed(range(len(membrane))):
            u = membrane[t]
            du = ctx.p.surrogate(u - ctx.p.threshold, alpha[t])
            if carried is None:
                du *= grad[t]
            else:
                # 1 if the neuron did not fire; multiplying by it is several times faster than a masked fill.
                kept = torch.lt(u, ctx.p.threshold, out=torch.empty_like(u))
                through_reset = carried * u
                scaled = carried.mul_(decay)
                du *= torch.addcmul(grad[t].to(u.dtype), decay, through_reset, value=-1)
                du += scaled.mul_(kept)
                if ctx.needs_input_grad[1]:
                    d_beta += through_reset.mul_(kept).sum_to_size(beta.shape)
            d_current[t] = du
            carried = du
        return d_current, d_beta.to(beta.dtype), None, None


def _repeats(x: Tensor) -> bool:
    """Whether elements of x share memory, as in an image expanded over time."""
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))


autograd = register("backend", "autograd")(Autograd())
reference = register("backend", "reference")(Reference())
