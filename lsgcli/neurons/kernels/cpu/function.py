"""The autograd function around the kernels: optional tdBN, neurons, average pooling.

It saves z, the residual if any, and per-channel vectors. After tdBN, in the context of ``single_backward``, the gradient of z
overwrites z.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

from lsgcli.neurons.kernels.base import SINGLE_BACKWARD, NormParameters, combined
from lsgcli.neurons.kernels.cpu import build, workers
from lsgcli.neurons.kernels.cpu.job import PLACES, SPIKES, STORAGE, SUMS, Job, Layout
from lsgcli.neurons.kernels.cpu.shapes import scalar
from lsgcli.neurons.step import LIFParameters, number, over_time

Vector = NDArray[np.float64]
quiet = np.errstate(all="ignore")  # NaN and infinity propagate, as in torch


class Setting(NamedTuple):
    """Arguments that need no gradient. Spikes are of z's type; with ``as_bytes``, they are uint8, and pooling returns sums."""

    norm: NormParameters | None
    p: LIFParameters
    layout: Layout
    pool: int
    as_bytes: bool = False


class Affine(NamedTuple):
    """tdBN as I = scale z + shift, (C,) each, with its statistics of n values; ``deviation`` is sqrt(var + eps)."""

    scale: Vector
    shift: Vector
    mean: Vector
    deviation: Vector
    n: Vector | float = 1.0


class Statistics(NamedTuple):
    """Statistics of neurons.

    Attributes:
        sums: (T, SUMS), float64.
        histogram: (PLACES,), counts of u / v_th.
        marks: (B, H, W, C), uint8: FIRED and SILENT of each neuron.
    """

    sums: Tensor
    histogram: Tensor
    marks: Tensor


def fused_neurons(z: Tensor, setting: Setting, residual: Tensor | None = None) -> Tensor:
    """Spikes, average-pooled if set, of the current z or tdBN(z), plus the residual."""
    norm, p = setting.norm, setting.p
    gamma, mu = (None, None) if norm is None else (norm.weight, norm.bias)
    threshold = p.threshold if isinstance(p.threshold, Tensor) else None
    return FusedNeurons.apply(z, gamma, mu, residual, p.beta, threshold, setting)


class FusedNeurons(torch.autograd.Function):
    """(T, ...) -> spikes (T, ...), or their averages (T, B, C, H / pool, W / pool)."""

    @staticmethod
    @quiet
    def forward(
        ctx: Any,
        z: Tensor,
        gamma: Tensor | None,
        mu: Tensor | None,
        residual: Tensor | None,
        beta: Tensor,
        threshold: Tensor | None,
        setting: Setting,
    ) -> Tensor:
        layout = setting.layout
        laid = _laid(z, layout)
        more = None if residual is None else layout.lay(residual)
        out = layout.like(z.shape, z, torch.uint8 if setting.as_bytes else z.dtype, setting.pool)
        affine = _affine(laid, len(z), setting)
        job = _job(laid, len(z), setting, more)
        job.vectors(scale=affine.scale, shift=affine.shift, beta=_vector(beta))
        job.point(out=out)
        measured = setting.p.measured
        of_u = None if measured is None else job.zeros("moments", 2, layout.channels)
        types = (STORAGE[z.dtype], SPIKES[z.dtype if more is None else more.dtype], SPIKES[out.dtype])
        job.run(build.address(workers.forward, *types, setting.p.reset))
        if measured is not None and of_u is not None:
            measured += torch.tensor([z.numel(), *of_u.sum((0, 2))], dtype=measured.dtype)
        ctx.save_for_backward(laid, more, beta, setting.p.alpha, gamma, mu, threshold)
        ctx.setting, ctx.affine, ctx.shape = setting, affine, z.shape
        ctx.overwrites, ctx.spent = SINGLE_BACKWARD.get() and setting.norm is not None and len(laid) == len(z), False
        ctx.set_materialize_grads(False)
        return layout.back(out)

    @staticmethod
    @once_differentiable
    @quiet
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        if ctx.spent:
            raise RuntimeError("found a second backward pass, expected one: gradients have overwritten saved tensors")
        laid, more, beta, alpha, gamma, mu, threshold = ctx.saved_tensors
        norm, p, layout, *_ = ctx.setting
        affine: Affine = ctx.affine
        wants_z, wants_gamma, wants_mu, wants_residual, wants_beta, wants_threshold, _ = ctx.needs_input_grad
        worker = build.address(workers.backward, STORAGE[laid.dtype], scalar(p.surrogate), p.reset, p.detach)
        job = _job(laid, ctx.shape[0], ctx.setting, more)
        job.point(grad=layout.lay(grad.to(laid.dtype)))
        vectors = {"scale": affine.scale, "shift": affine.shift, "beta": _vector(beta), "mean": affine.mean}
        job.widths(_table(over_time(alpha, grad.dim())), **vectors)

        through_statistics = norm is not None and norm.training and wants_z
        moments = job.zeros("moments", 2, layout.channels) if wants_gamma or wants_mu or through_statistics else None
        d_beta = job.zeros("d_beta", layout.channels) if wants_beta else None
        d_threshold = job.zeros("d_threshold", layout.channels) if wants_threshold else None
        total = np.zeros((2, layout.channels))  # of du and du (z - mean)
        if through_statistics:
            # The gradient through the statistics needs sums over all elements before the first d_z can be written.
            # Recomputing u and du in a second pass is cheaper than writing du and reading it back.
            assert moments is not None
            job.run(worker)
            total = moments.sum(0)
            whole = total if norm.gather is None else norm.gather(torch.from_numpy(total)).sum(0).numpy()
            slope, offset = -affine.scale / affine.deviation**2 * whole[1], -affine.scale * whole[0]
            job.vectors(slope=slope / affine.n, offset=offset / affine.n)
            job.point(moments=None, d_beta=None, d_threshold=None)
        ctx.spent = ctx.overwrites and wants_z
        if ctx.spent:
            increment_version(laid)  # so that torch detects other uses of it in a backward pass
        d_z = laid if ctx.spent else layout.like(ctx.shape, laid) if wants_z else None
        d_residual = layout.like(ctx.shape, laid) if wants_residual else None
        job.point(d_z=d_z, d_residual=d_residual)
        job.run(worker)
        if moments is not None and not through_statistics:
            total = moments.sum(0)
        scale = 1.0 if norm is None else norm.scale
        return (
            None if d_z is None else layout.back(d_z),
            _parameter(total[1] * scale / affine.deviation, gamma) if wants_gamma else None,
            _parameter(total[0], mu) if wants_mu else None,
            None if d_residual is None else layout.back(d_residual),
            None if d_beta is None else _parameter(d_beta.sum(0), beta),
            None if d_threshold is None else _parameter(d_threshold.sum(0), threshold),
            None,
        )


@quiet
def observe(
    x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, grad: Tensor | None, setting: Setting, *, full: bool
) -> Statistics:
    """Statistics of neurons with the current scale x + shift + residual.

    Args:
        x: (T, B, C, H, W); H and W are multiples of the pooling window.
        scale, shift: (C,).
        residual: a second current, shaped like x.
        grad: dL/do, or the gradient of averages over windows; None without a backward pass.
        setting: ``norm`` is ignored.
        full: compute all statistics; otherwise only spikes and coverage.
    """
    layout, p = setting.layout, setting.p
    more = None if residual is None else layout.lay(residual.to(x.dtype))
    job = _job(_laid(x, layout), len(x), setting, more)
    vectors = {"scale": _vector(scale), "shift": _vector(shift), "beta": _vector(p.beta)}
    job.widths(_table(over_time(p.alpha, x.dim())), **vectors)
    sums, histogram = job.zeros("sums", len(x), len(SUMS)), job.zeros("histogram", PLACES, dtype=np.int64)
    marks = np.zeros([x.shape[axis] for axis in layout.order[1:]], np.uint8)
    job.point(grad=None if grad is None else layout.lay(grad.to(x.dtype)), marks=marks)
    if not full:
        job.point(histogram=None)
    job.run(build.address(workers.backward, STORAGE[x.dtype], scalar(p.surrogate), p.reset, p.detach, True))
    return Statistics(*map(torch.from_numpy, (sums.sum(0), histogram.sum(0), marks)))


def _laid(z: Tensor, layout: Layout) -> Tensor:
    """z in the memory order of the kernels; one step of an image expanded over time, whose steps share memory."""
    return layout.lay(z[:1] if z.stride(0) == 0 else z)


def _job(laid: Tensor, T: int, setting: Setting, residual: Tensor | None) -> Job:
    """A job with the inputs of the neurons."""
    job = Job(laid, T, setting.layout, number(setting.p.threshold), setting.pool, setting.as_bytes)
    job.point(residual=residual)
    return job


def _affine(laid: Tensor, T: int, setting: Setting) -> Affine:
    """tdBN with batch statistics, which also update the running statistics, or in evaluation with running statistics."""
    norm, channels = setting.norm, setting.layout.channels
    if norm is None:
        x, zero = np.ones(channels), np.zeros(channels)
        return Affine(x, zero, zero, x)
    if norm.training:
        job = Job(laid, T, setting.layout, number(setting.p.threshold)).over_all()
        # Deviations from one value per channel: squares of the values would cancel if the mean is large.
        origin = laid.as_strided((channels,), (1,)).double().numpy()
        job.vectors(mean=origin)
        sums = job.zeros("moments", 2, channels)
        job.run(build.address(workers.statistics, STORAGE[laid.dtype]))
        here = laid.numel() // channels
        shifted, square = sums.sum(0) / here
        n: Any = here * (T // len(laid))
        statistics: Any = torch.from_numpy(origin + shifted), torch.from_numpy(np.maximum(square - shifted**2, 0))
        if norm.gather is not None:
            n, *statistics = combined(n, statistics[0], statistics[1], norm.gather)
        norm.update_running(n, *statistics)
        n, mean, var = (np.asarray(x) for x in (n, *statistics))
    else:
        n, mean, var = 1, _vector(norm.running_mean), _vector(norm.running_var)
    deviation = np.sqrt(var + norm.eps)
    scale = _vector(norm.weight) * norm.scale / deviation
    return Affine(scale, _vector(norm.bias) - scale * mean, mean, deviation, n)


def _vector(parameter: Tensor) -> Vector:
    """A parameter per channel or a scalar, as (C,) or (1,)."""
    return parameter.detach().double().numpy().reshape(-1)


def _table(alpha: Tensor) -> Vector:
    """Widths (T or 1, ...) as (T or 1, C or 1)."""
    return alpha.detach().double().numpy().reshape(len(alpha), -1)


def _parameter(per_channel: Vector, parameter: Tensor) -> Tensor:
    """A per-channel gradient in the parameter's shape and type."""
    if parameter.numel() == 1:
        per_channel = per_channel.sum(keepdims=True)
    return torch.from_numpy(per_channel.reshape(parameter.shape)).to(parameter.dtype)
