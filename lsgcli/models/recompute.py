"""Segments: a convolution and what follows it, whose backward pass computes the convolution's output again from its packed input.

Of a segment, only the input is kept, in bits where it consists of spikes. Its backward pass has three stages, of which each needs less memory
than all together: the output of the convolution, and its gradient; the gradient of the weight; the gradient of the input. Images do not
depend on each other in a convolution, so it may run in parts along (T, B). Every result has the same bits as without segments.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lsgcli.models.convolution import Conv2d, by_spikes, computed_in, is_safe
from lsgcli.neurons.draws import Draws
from lsgcli.neurons.kernels.base import SINGLE_BACKWARD, is_tracing, single_backward
from lsgcli.neurons.kernels.saved import Kept, kept
from lsgcli.system.device import CONVOLUTIONS, Convolutions


class Recompute(NamedTuple):
    """How the backward pass of a segment saves memory.

    Attributes:
        output: whether the output of the convolution is computed again instead of kept.
        apart: whether the gradient of the weight is computed before that of the input, and the latter in parts along (T, B).
        in_parts: whether the output of the convolution is computed again in parts along (T, B).
    """

    output: bool = False
    apart: bool = False
    in_parts: bool = False


KEEP = Recompute()
PARTS = 8


class Segment(NamedTuple):
    """What a backward pass runs again.

    Attributes:
        synapse: the convolution, (T B, C, H, W) -> (T B, C', H', W').
        rest: what follows, from its output (T, B, C', H', W') and other inputs.
        modules: all modules that ``rest`` uses.
        how: how memory is saved.
    """

    synapse: nn.Module
    rest: Callable[..., Tensor]
    modules: tuple[nn.Module, ...]
    how: Recompute = KEEP


def applies(how: Recompute, flat: Tensor) -> bool:
    """Whether a backward pass will follow in which memory can be saved."""
    return how != KEEP and torch.is_grad_enabled() and not is_tracing(flat)


def run(segment: Segment, flat: Tensor, steps: torch.Size, *others: Tensor) -> Tensor:
    """The output of a segment.

    Args:
        segment: the segment.
        flat: its input, (T B, C, H, W), in a context of :func:`~lsgcli.neurons.kernels.saved.saved_compactly` if it consists of spikes.
        steps: T and B.
        others: further inputs of ``rest``.
    """
    z = _convolved(segment, flat).unflatten(0, steps)
    if not segment.how.output:
        return segment.rest(z, *others)
    parameters = [p for module in segment.modules for p in module.parameters() if p.requires_grad]
    return Recomputed.apply(segment, flat, len(others), z, *others, *parameters)  # type: ignore[no-any-return]


def _convolved(segment: Segment, flat: Tensor) -> Tensor:
    """The convolution, whose gradients are computed one after the other if set."""
    conv = segment.synapse
    hooked = conv._forward_pre_hooks or conv._forward_hooks or conv._backward_pre_hooks or conv._backward_hooks
    if not segment.how.apart or type(conv) is not Conv2d or hooked or not is_safe(conv) or by_spikes(conv, flat) is not None:
        return conv(flat)  # type: ignore[no-any-return]
    dtype = computed_in(flat)
    with torch.autocast(flat.device.type, enabled=False):
        bias = None if conv.bias is None else conv.bias.to(dtype)
        return Apart.apply(flat, conv.weight.to(dtype), bias, conv)  # type: ignore[no-any-return]


@contextmanager
def recomputing(modules: Iterable[nn.Module], how: Convolutions) -> Iterator[None]:
    """Context in which modules compute again, without updating their statistics, with the choice of convolutions of the forward pass."""
    flagged = [part for module in modules for part in module.modules() if hasattr(part, "recomputing")]
    token = CONVOLUTIONS.set(how)
    for part in flagged:
        part.recomputing = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in flagged:
            part.recomputing = False  # type: ignore[assignment]
        CONVOLUTIONS.reset(token)


class State(NamedTuple):
    """What surrounds a forward pass, to be restored in a recomputation.

    Attributes:
        convolutions: the choice of convolutions.
        single: whether one backward pass follows.
        autocast: type of autocast; None if it is disabled.
        random: states of torch's generators of the CPU and of the device, if numbers are drawn.
    """

    convolutions: Convolutions
    single: bool
    autocast: torch.dtype | None
    random: tuple[Tensor, Tensor | None] | None

    @classmethod
    def of(cls, x: Tensor, modules: Iterable[nn.Module]) -> "State":
        """The state around a forward pass of x."""
        kind, random = x.device.type, None
        if any(isinstance(part, Draws) and part.draws for module in modules for part in module.modules()):
            random = torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if kind == "cuda" else None
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return cls(CONVOLUTIONS.get(), SINGLE_BACKWARD.get(), half, random)

    @contextmanager
    def restored(self, device: torch.device, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Context in which modules compute the same again, without updating their statistics."""
        fork = nullcontext() if self.random is None else torch.random.fork_rng([device] if device.type == "cuda" else [])
        autocast = torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)
        with recomputing(modules, self.convolutions), single_backward(self.single), fork, autocast:
            if self.random is not None:
                torch.set_rng_state(self.random[0])
                if self.random[1] is not None:
                    torch.cuda.set_rng_state(self.random[1], device)
            yield


class Recomputed(torch.autograd.Function):
    """What follows a convolution. It keeps the input of the convolution rather than its output."""

    @staticmethod
    def forward(ctx: Any, segment: Segment, flat: Tensor, count: int, z: Tensor, *others: Tensor) -> Tensor:
        """The output of ``segment.rest(z, *others[:count])``; the other tensors are the parameters that it uses."""
        ctx.segment, ctx.state = segment, State.of(z, segment.modules)
        ctx.kept, ctx.steps = [kept(x) for x in (flat, *others[:count])], z.shape[:2]
        ctx.parameters = others[count:]  # hooks may not replace them
        return segment.rest(z, *others[:count])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        segment, state = ctx.segment, ctx.state
        source, *rest = _released(ctx)
        with state.restored(grad.device, segment.modules):
            with torch.no_grad():
                z = _again(segment, source).unflatten(0, ctx.steps)
            z.requires_grad_()
            others = [x.whole().detach().requires_grad_(x.requires_grad) for x in rest]
            with torch.enable_grad():
                out = segment.rest(z, *others)
        wanted = [z, *(x for x in others if x.requires_grad), *ctx.parameters]
        found = iter(torch.autograd.grad(out, wanted, grad, allow_unused=True))
        of_z = next(found)
        return None, None, None, of_z, *(next(found) if x.requires_grad else None for x in others), *found


def _released(ctx: Any) -> Any:
    """What a node keeps, which it releases."""
    if ctx.kept is None:
        raise RuntimeError("found a second backward pass, expected one: what was kept for it is released")
    found, ctx.kept = ctx.kept, None
    return found


def _again(segment: Segment, source: Kept) -> Tensor:
    """The output of the convolution, in parts if set."""
    if not segment.how.in_parts:
        return segment.synapse(source.whole())  # type: ignore[no-any-return]
    z: Tensor | None = None
    for part in _parts(source.shape[0]):
        own = segment.synapse(source.part(part))
        if z is None:
            z = _empty(own, source.shape[0], *own.shape[1:])
        z[part] = own
    assert z is not None
    return z


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Images in channels-last memory, of the type and device of a tensor."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _parts(n: int) -> Iterator[slice]:
    size = -(-n // PARTS)
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


class Apart(torch.autograd.Function):
    """A convolution whose backward pass computes the gradient of the weight, releases the input, and computes its gradient in parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
        ctx.kept, ctx.biased = kept(x), None if bias is None else list(bias.shape)
        ctx.geometry = (conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups)
        ctx.save_for_backward(weight)
        return torch.convolution(x.to(weight.dtype), weight, bias, *ctx.geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        back, source = torch.ops.aten.convolution_backward, _released(ctx)
        shape = source.shape
        d_x = d_weight = d_bias = None
        if needs_weight or needs_bias:
            x, which = source.whole().to(weight.dtype), (False, needs_weight, needs_bias)
            _, d_weight, d_bias = back(grad, x, weight, ctx.biased, *ctx.geometry, which)
            del x
        del source
        if needs_x:
            d_x, parts = _empty(weight, *shape), list(_parts(shape[0]))
            # The gradient of the input depends on the shape and memory layout of the input only.
            like = _empty(weight, parts[0].stop, *shape[1:])
            for part in parts:
                own, *_ = back(grad[part], like[: part.stop - part.start], weight, None, *ctx.geometry, (True, False, False))
                d_x[part] = own
        return d_x, d_weight, d_bias, None
