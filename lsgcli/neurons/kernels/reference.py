"""Backends in plain torch, for any device and floating type: ``reference``, and ``autograd``, the oracle for all others."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsgcli.neurons.kernels.base import Backend
from lsgcli.neurons.step import RESETS, LIFParameters, initial_state, measure, over_time, step
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
        threshold = p.threshold if isinstance(p.threshold, Tensor) else None
        return LIFSequence.apply(current, p.beta, threshold, p, overwrite)


class LIFSequence(torch.autograd.Function):
    """Forward integrates and fires step by step; backward iterates over the steps in reverse."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, beta: Tensor, threshold: Tensor | None, p: LIFParameters, overwrite: bool) -> Tensor:
        """(T, ...) -> (T, ...)."""
        wide = torch.promote_types(current.dtype, torch.float32)
        reuse = overwrite and wide == current.dtype and not _repeats(current)
        membrane = current if reuse else torch.empty_like(current, dtype=wide)
        spikes = torch.empty_like(membrane, dtype=current.dtype)
        decay, v_th = beta.detach().to(wide), p.threshold if threshold is None else threshold.detach()
        for t in range(len(current)):
            u = membrane[t]
            if t > 0:
                rest = RESETS[p.reset].remains(membrane[t - 1], spikes[t - 1].to(wide), v_th)
                torch.add(current[t], rest * decay, out=u)
            elif not reuse:
                u.copy_(current[t])
            torch.ge(u, v_th, out=spikes[t])
            if p.measured is not None:
                measure(p.measured, u)
        ctx.save_for_backward(membrane, beta, threshold, over_time(p.alpha, current.dim()))
        ctx.p, ctx.dtype = p, current.dtype
        ctx.set_materialize_grads(False)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the current, of beta and of the threshold."""
        if grad is None:
            return (None,) * 5
        membrane, beta, threshold, alpha = ctx.saved_tensors
        p, v_th = ctx.p, ctx.p.threshold if threshold is None else threshold
        reset = RESETS[p.reset]
        decay = beta.to(membrane.dtype)
        alpha = alpha.to(membrane.dtype).expand(len(membrane), *alpha.shape[1:])
        d_current = torch.empty_like(membrane, dtype=ctx.dtype)
        d_beta = torch.zeros_like(beta, dtype=torch.promote_types(beta.dtype, membrane.dtype))
        d_threshold = membrane.new_zeros(())
        carried: Tensor | None = None  # du[t+1]
        for t in reversed(range(len(membrane))):
            u = membrane[t]
            du = p.surrogate(u - v_th, alpha[t])
            if carried is None:
                du *= grad[t]
                d_threshold -= 0 if threshold is None else du.sum()
            else:
                # As numbers: multiplying by them is several times faster than a masked fill.
                fired = torch.ge(u, v_th, out=torch.empty_like(u))
                if ctx.needs_input_grad[1]:
                    d_beta += (reset.remains(u, fired, v_th) * carried).sum_to_size(beta.shape)
                arriving = grad[t].to(u.dtype)
                if not p.detach:
                    arriving = torch.addcmul(arriving, decay, carried * reset.removed(u, v_th), value=-1)
                du *= arriving
                scaled = carried.mul_(decay)
                if threshold is not None:
                    d_threshold -= du.sum() + reset.of_threshold * (scaled * fired).sum()
                du += scaled * (1 - reset.of_u * fired) if reset.of_u else scaled
            d_current[t] = du
            carried = du
        return d_current, d_beta.to(beta.dtype), None if threshold is None else d_threshold.to(threshold.dtype), None, None


def _repeats(x: Tensor) -> bool:
    """Whether elements of x share memory, as in an image expanded over time."""
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))


autograd = register("backend", "autograd")(Autograd())
reference = register("backend", "reference")(Reference())
