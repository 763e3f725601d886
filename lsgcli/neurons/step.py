"""One timestep of leaky integrate-and-fire neurons, as a pure function; the equations are in ``lsgcli.neurons.lif``."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsgcli.neurons.surrogates import Surrogate


class LIFState(NamedTuple):
    """State of a layer between two steps: membrane potential before reset, and spikes; both shaped like I[t]."""

    u: Tensor
    o: Tensor


class Reset(NamedTuple):
    """A reset r(u, o), with its derivatives for spikes o of 0 and 1, where d is what a spike removes: r = u - o d.

    Attributes:
        remains: (u, o, v_th) -> r, a tensor like u.
        removed: (u, v_th) -> d = -dr/do.
        of_u: dd/du.
        of_threshold: dd/dv_th.
    """

    remains: Callable[[Tensor, Tensor, float | Tensor], Tensor]
    removed: Callable[[Tensor, float | Tensor], float | Tensor]
    of_u: float = 0.0
    of_threshold: float = 0.0


# Resets by name, as in the setting ``reset``. The backend ``fused`` has compiled forms in ``kernels/cpu/stages.py``; without one, it
# computes the neurons as ``reference``.
RESETS = {
    "hard": Reset(lambda u, o, v_th: u * (1 - o), lambda u, v_th: u, of_u=1.0),
    "soft": Reset(lambda u, o, v_th: u - v_th * o, lambda u, v_th: v_th, of_threshold=1.0),
    "none": Reset(lambda u, o, v_th: u, lambda u, v_th: 0.0),
}


class LIFParameters(NamedTuple):
    """Parameters of a sequence of steps.

    Attributes:
        beta: decay; broadcasts against I[t].
        alpha: width; broadcasts against the current, (T, ...).
        threshold: v_th; a tensor, (), if it is learned.
        surrogate: shape of do/du in the backward pass.
        measured: (3,), float64; if given, the backend adds the number of membrane potentials computed in the forward pass,
            their sum, and the sum of their squares.
        reset: a key of :data:`RESETS`.
        detach: whether the gradient through the spikes in the reset is omitted.
    """

    beta: Tensor
    alpha: Tensor
    threshold: float | Tensor
    surrogate: Surrogate
    measured: Tensor | None = None
    reset: str = "hard"
    detach: bool = False

    def each_step(self, current: Tensor) -> "Iterator[LIFParameters]":
        """Parameters of each timestep of a current (T, ...), for :func:`step`; ``alpha`` broadcasts against I[t]."""
        alpha = over_time(self.alpha, current.dim())
        for width in alpha.expand(len(current), *alpha.shape[1:]):
            yield self._replace(alpha=width)


def number(threshold: float | Tensor) -> float:
    """The value of a threshold."""
    return threshold.item() if isinstance(threshold, Tensor) else threshold


def like(value: float | Tensor, x: Tensor) -> Tensor:
    """A number as a tensor, () or its own shape, of the type of x on its device. Unlike ``torch.as_tensor``, does not wait for the device."""
    return value.to(x) if isinstance(value, Tensor) else x.new_full((), value)


def over_time(parameter: Tensor, dimensions: int) -> Tensor:
    """A parameter that broadcasts against a current, reshaped to ``dimensions`` dimensions: (T or 1, ...)."""
    return parameter.reshape(*(1,) * (dimensions - parameter.dim()), *parameter.shape)


def over_channels(parameter: Tensor, trailing: int) -> Tensor:
    """A parameter per layer, (), or per channel, (C,), reshaped to broadcast against (C, ...) with ``trailing`` axes after C."""
    return parameter.reshape(-1, *(1,) * trailing) if parameter.dim() == 1 else parameter


class Spike(torch.autograd.Function):
    """o = 1[u >= v_th] forward, do/du = -do/dv_th = h(u - v_th, alpha) backward."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float | Tensor, alpha: Tensor, surrogate: Surrogate) -> Tensor:
        """Spikes of u's shape and type."""
        ctx.save_for_backward(u, threshold if isinstance(threshold, Tensor) else None, alpha)
        ctx.threshold = threshold
        ctx.surrogate = surrogate
        return (u >= threshold).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient times the surrogate."""
        u, threshold, alpha = ctx.saved_tensors
        d_u = grad * ctx.surrogate(u - (ctx.threshold if threshold is None else threshold), alpha)
        return d_u, -d_u.sum_to_size(threshold.shape) if ctx.needs_input_grad[1] else None, None, None


def initial_state(current: Tensor) -> LIFState:
    """u = o = 0, shaped like ``current``, the input of one step."""
    return LIFState(torch.zeros_like(current), torch.zeros_like(current))


def integrate(current: Tensor, u: Tensor, o: Tensor, p: Any) -> Tensor:
    """u[t] = beta reset(u[t-1], o[t-1]) + I[t], for ``p`` with beta, threshold, reset and detach of :class:`LIFParameters`."""
    return p.beta * RESETS[p.reset].remains(u, o.detach() if p.detach else o, p.threshold) + current


def step(current: Tensor, state: LIFState, p: LIFParameters) -> tuple[Tensor, LIFState]:
    """One timestep, without side effects; autograd computes the gradients of the equations in ``lsgcli.neurons.lif``.

    Args:
        current: I[t], (B, ...) or any shape.
        state: of the previous step; :func:`initial_state` for the first.
        p: parameters of this step, from :meth:`LIFParameters.each_step`.

    Returns:
        The spikes o[t] and the state for the next step.
    """
    u = integrate(current, state.u, state.o, p)
    o = Spike.apply(u, p.threshold, p.alpha, p.surrogate)
    return o, LIFState(u, o)


@torch.no_grad()
def measure(measured: Tensor, u: Tensor) -> None:
    """Add the number of elements of u, their sum, and the sum of their squares to ``measured``, (3,) float64."""
    measured[0] += u.numel()
    measured[1] += u.sum(dtype=torch.float64)
    measured[2] += u.square().sum(dtype=torch.float64)


@torch.no_grad()
def pair_products(current: Tensor) -> Tensor:
    """Sums of products of pairs of timesteps of a current (T, ...), over all samples and neurons: X X^T of X = [I, 1], (T + 1, T + 1) float64.

    Its last row has the sums of I[t] and the number of entries per timestep.
    """
    rows = current.flatten(1).to(torch.promote_types(current.dtype, torch.float32))
    rows = torch.cat([rows, rows.new_ones(1, rows.shape[1])])
    return (rows @ rows.T).double()


@torch.no_grad()
def measure_remains(current: Tensor, spikes: Tensor, p: LIFParameters) -> Tensor:
    """Number of neurons that fired at any step, and the sum of their potentials after the reset of the last step: (2,) float64.

    Args:
        current: I, (T, ...).
        spikes: o, (T, ...).
        p: parameters of the layer.
    """
    rest = torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))
    for now, o in zip(current, spikes, strict=True):
        rest = RESETS[p.reset].remains(p.beta * rest + now, o.to(rest.dtype), p.threshold)
    fired = spikes.amax(0) >= 0.5  # the output of asgl, H(u - v_th), is 0.5 at the threshold
    return torch.stack([fired.sum(dtype=torch.float64), (rest * fired).sum(dtype=torch.float64)])
