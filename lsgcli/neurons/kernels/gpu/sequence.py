"""tdBN, LIF and average pooling over a whole sequence as one autograd function, which launches the kernels.

It saves only its inputs and per-channel vectors. The backward pass needs one activation-sized buffer in the computation type, which
also receives the gradient if that has the same type.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.kernels.gpu.layout import StepLayout
from lsgcli.neurons.kernels.synchronised import combined
from lsgcli.neurons.step import LIFParameters, over_time

# Neurons per tile: 8 per thread with Triton's default of 4 warps. From the table of `benchmarks.gpu_kernels`, not from measured times.
TILE = 1024
# The backward pass needs more registers, so fewer neurons per thread: 2. Without a limit on registers, NVIDIA's assembler spills
# a few in some variants to reach the next higher occupancy.
BACKWARD_TILE, BACKWARD_WARPS, BACKWARD_REGISTERS = 512, 8, 48
# Columns per tile: 64 adjacent elements, 256 bytes of float32.
COLUMNS = 64
# Only explicit fused multiply-adds, so that forward and backward compute bit-identical u.
EXACT = {"enable_fp_fusion": False}
# Maximum number of partial sums per channel for the moments.
PARTS = 512


@dataclass(frozen=True)
class Launch:
    """Arguments of :class:`Sequence` that need no gradient."""

    layout: StepLayout
    norm: NormParameters | None
    p: LIFParameters
    shape: Any  # the surrogate as a Triton function


# tdBN as factor (x - centre) + mu, with statistics of n values: centre, 1 / sqrt(var + eps) and factor, (C,) each, and n.
Affine = tuple[Tensor, Tensor, Tensor, float | Tensor]


@dataclass(frozen=True)
class Tiles:
    """Tile size of a kernel, and the number of tiles that cover ``rows`` x ``columns``."""

    rows: int
    columns: int
    block_rows: int
    block_columns: int

    @classmethod
    def of(cls, rows: int, columns: int, inner: int, wide: torch.dtype, window: int = 1, neurons: int = 0) -> "Tiles":
        """Tiles of ``neurons`` neurons (default TILE; half as many in float64), adjacent in memory where possible; a row has ``window`` neurons."""
        count = (neurons or TILE) * torch.float32.itemsize // wide.itemsize // window
        side = 1 if inner > 1 else min(COLUMNS, count, _power(columns))
        return cls(rows, columns, max(1, min(count // side, _power(rows))), side)

    @property
    def blocks(self) -> int:
        """Number of blocks of rows."""
        return -(-self.rows // self.block_rows)

    @property
    def programs(self) -> int:
        """Number of programs: blocks of rows times blocks of columns."""
        return self.blocks * -(-self.columns // self.block_columns)


class Sequence(torch.autograd.Function):
    """Forward and backward pass; see ``lsgcli.neurons.lif`` for the equations."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        residual: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        beta: Tensor,
        threshold: Tensor | None,
        launch: Launch,
    ) -> Tensor:
        """(T, step) -> spikes (T, step), or their averages (T, B, C, H / pool, W / pool)."""
        from lsgcli.neurons.kernels.gpu import kernels

        layout, wide = launch.layout, torch.promote_types(z.dtype, torch.float32)
        x = layout.stored(z)
        y = x if residual is None else layout.stored(residual)
        decay, v_th = layout.per_column(beta.detach()[None], wide)[0], _threshold(launch, wide, beta)
        centre = inverse = factor = shift = decay  # unused without a norm
        values: float | Tensor = 1.0
        if launch.norm is not None:
            values, mean, variance = _moments(x, launch)
            inverse = (variance + launch.norm.eps).rsqrt()
            centre = mean.to(wide)
            factor = (launch.norm.weight.detach() * inverse * launch.norm.scale).to(wide)
            shift = launch.norm.bias.detach().to(wide)
        out = layout.empty(len(z), x, z.dtype, pooled=True)
        window = _power(layout.pool**2)
        rows = out[0].numel() // layout.columns
        tiles = Tiles.of(rows, layout.columns, layout.inner, wide, window)
        measured = launch.p.measured
        sums = decay if measured is None else decay.new_empty((2, tiles.blocks, layout.columns))
        with torch.cuda.device_of(x):
            kernels.forward[(tiles.programs,)](
                *(x, y, out, centre, factor, shift, decay, v_th, sums),
                *(len(z), rows, layout.columns, layout.inner, *layout.image),
                *(x.stride(0), y.stride(0), out.stride(0), tiles.blocks),
                MEASURE=measured is not None,
                RESET=launch.p.reset,
                **_choices(launch, tiles, window, residual is not None, wide),
            )
        if measured is not None:
            measured[0] += out.numel() * layout.pool**2  # excludes neurons outside all windows
            measured[1:] += sums.sum((1, 2), dtype=torch.float64)
        ctx.save_for_backward(x, y, centre, inverse, factor, shift, beta, launch.p.alpha)
        ctx.launch, ctx.wide, ctx.type, ctx.values = launch, wide, z.dtype, values
        ctx.types = tuple(None if given is None else given.dtype for given in (residual, weight, bias))
        return layout.logical(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of z, residual, weight, bias, beta and the threshold."""
        from lsgcli.neurons.kernels.gpu import kernels

        x, y, centre, inverse, factor, shift, beta, alpha = ctx.saved_tensors
        alpha = over_time(alpha, grad.dim())
        launch, wide, layout = ctx.launch, ctx.wide, ctx.launch.layout
        residual_type, weight_type, bias_type = ctx.types
        T, norm = len(x), launch.norm
        p, learned = launch.p, ctx.needs_input_grad[5]
        decay, v_th = layout.per_column(beta[None], wide)[0], _threshold(launch, wide, beta)
        width = layout.per_column(alpha, wide)
        g = layout.stored(grad)
        window = _power(layout.pool**2)
        rows = g[0].numel() // layout.columns
        tiles = Tiles.of(rows, layout.columns, layout.inner, wide, window, BACKWARD_TILE)
        # Neurons outside all windows have du = 0 and are skipped.
        potential = layout.empty(T, x, wide, zero=g[0].numel() * layout.pool**2 != x[0].numel())
        du = potential if norm is not None or ctx.type == wide else layout.empty(T, x, ctx.type)
        if du is not potential and potential.numel() != g.numel():
            du.zero_()
        sums = potential.new_empty(((1 if norm is None else 3) + learned, tiles.blocks, layout.columns))
        with torch.cuda.device_of(x):
            kernels.backward[(tiles.programs,)](
                *(x, y, g, centre, factor, shift, decay, v_th, width, potential, du, sums),
                *(T, rows, layout.columns, layout.inner, *layout.image),
                *(
                    x.stride(0),
                    y.stride(0),
                    g.stride(0),
                    layout.columns if len(alpha) > 1 else 0,
                    potential.stride(0),
                    tiles.blocks,
                ),
                RESET=p.reset,
                THROUGH="none" if p.detach else p.reset,
                LEARNED=learned,
                SHAPE=launch.shape,
                # At most one thread per element: du may overwrite u, which no second thread may read later.
                num_warps=max(1, min(BACKWARD_WARPS, tiles.block_rows * window * tiles.block_columns // 32)),
                **({} if torch.version.hip else {"maxnreg": BACKWARD_REGISTERS * wide.itemsize // torch.float32.itemsize}),
                **_choices(launch, tiles, window, residual_type is not None, wide),
            )
        totals = sums.sum(1, dtype=torch.float64)
        d_beta = layout.from_columns(totals[0], beta.shape).to(beta.dtype)
        d_threshold = totals[-1].sum().to(launch.p.threshold.dtype) if learned else None
        d_residual = None if residual_type is None else layout.logical(du).to(residual_type)
        if norm is None:
            return layout.logical(du), d_residual, None, None, d_beta, d_threshold, None
        of_du, of_product = own = totals[1:3]  # in the order in which the other backends gather them
        d_weight = (of_product * inverse * norm.scale).to(weight_type)
        dz = du if ctx.type == wide and d_residual is None else layout.empty(T, x, ctx.type)
        through = own if norm.gather is None or not norm.training else norm.gather(own).sum(0)
        _through_norm(x, du, dz, (centre, inverse, factor, ctx.values), through, launch)
        return layout.logical(dz), d_residual, d_weight, of_du.to(bias_type), d_beta, d_threshold, None


def _moments(x: Tensor, launch: Launch) -> tuple[float | Tensor, Tensor, Tensor]:
    """Number of values, mean and variance per channel, (C,) float64: those of the batch in training, otherwise the running statistics."""
    from lsgcli.neurons.kernels.gpu import kernels

    norm, layout = launch.norm, launch.layout
    assert norm is not None
    if not norm.training:
        return 1.0, norm.running_mean.double(), norm.running_var.double()
    # For an image expanded over time, one step suffices.
    rows = (x[:1] if x.stride(0) == 0 else x).reshape(-1, layout.columns)
    wide = torch.promote_types(x.dtype, torch.float32)
    tile = Tiles.of(len(rows), layout.columns, layout.inner, wide)
    deep = -(-tile.blocks // PARTS)
    parts = Tiles(len(rows), layout.columns, tile.block_rows * deep, tile.block_columns)
    means, squares = sums = x.new_empty((2, parts.blocks, layout.columns), dtype=torch.float64)
    with torch.cuda.device_of(x):
        kernels.moments[(parts.programs,)](
            *(rows, sums, len(rows), layout.columns, deep),
            BLOCK_R=tile.block_rows,
            BLOCK_C=tile.block_columns,
            wide=_triton_type(wide),
            **EXACT,
        )
    starts = torch.arange(parts.blocks, device=x.device, dtype=torch.float64)[:, None] * parts.block_rows
    counts = (len(rows) - starts).clamp(max=parts.block_rows)
    mean = (counts * means).sum(0) / len(rows)
    variance = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / len(rows)
    values: float | Tensor = len(x) * layout.rows
    if norm.gather is not None:
        values, mean, variance = combined(len(x) * layout.rows, mean, variance, norm.gather)
    norm.update_running(values, mean, variance)
    return values, mean, variance


def _through_norm(x: Tensor, du: Tensor, dz: Tensor, affine: Affine, totals: Tensor, launch: Launch) -> None:
    """Write the gradient of the normalisation's input to dz, given the gradient du of its output and sums over it."""
    from lsgcli.neurons.kernels.gpu import kernels

    layout, norm = launch.layout, launch.norm
    assert norm is not None
    centre, inverse, factor, n = affine
    exact = factor.double() * (-1 / n if norm.training else 0.0)
    by_distance, always = ((exact * v).to(factor.dtype) for v in (inverse.square() * totals[1], totals[0]))
    tiles = Tiles.of(layout.rows, layout.columns, 1, factor.dtype)
    with torch.cuda.device_of(x):
        kernels.input_gradient[(tiles.programs, len(x))](
            *(x, du, dz, centre, factor, by_distance, always),
            *(layout.rows, layout.columns, x.stride(0), du.stride(0)),
            BLOCK_R=tiles.block_rows,
            BLOCK_C=tiles.block_columns,
            wide=_triton_type(factor.dtype),
            **EXACT,
        )


def _choices(launch: Launch, tiles: Tiles, window: int, residual: bool, wide: torch.dtype) -> dict[str, Any]:
    """Compile-time arguments of the forward and backward kernels."""
    return {
        "NORM": launch.norm is not None,
        "RESIDUAL": residual,
        "POOL": launch.layout.pool,
        "WINDOW": window,
        "BLOCK_R": tiles.block_rows,
        "BLOCK_C": tiles.block_columns,
        "wide": _triton_type(wide),
        **EXACT,
    }


def _threshold(launch: Launch, wide: torch.dtype, like: Tensor) -> Tensor:
    """v_th of each column, on the device of ``like``."""
    v_th = launch.p.threshold
    v_th = v_th.detach() if isinstance(v_th, Tensor) else like.new_full((), v_th, dtype=wide)
    return launch.layout.per_column(v_th[None], wide)[0]


def _triton_type(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return {torch.float32: tl.float32, torch.float64: tl.float64}[dtype]


def _power(n: int) -> int:
    """The smallest power of 2 that is at least n."""
    return 1 << (n - 1).bit_length()
