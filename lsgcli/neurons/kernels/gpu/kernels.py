"""The kernels: moments, forward pass, backward pass, and the gradient of the normalisation's input.

All kernels work on (T, rows, columns) as defined in ``layout``, in tiles of BLOCK_R rows x BLOCK_C columns; the order of summation depends
on shapes only. ``wide`` is the computation type: float32, or float64 for float64 input. With pooling over POOL x POOL windows, a row is a
window, and a tile has WINDOW = POOL^2 lanes per row, rounded up to a power of 2.

Each program loops over T and advances the addresses of its tensors, which are scalars, by the stride of a step; tiles of offsets within
a step are 64-bit and constant. Tiles of addresses, carried from loop to loop, would change their layout through shared memory in every
step. A kernel is compiled once for all T, batch sizes and image sizes. The sizes are therefore separate arguments: Triton
specialises on the elements of a tuple even with ``do_not_specialize``.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from collections import namedtuple

import triton
import triton.language as tl

from lsgcli.neurons.kernels.gpu import interpreted

INTERPRETED = tl.constexpr(interpreted())

# Without this, Triton recompiles if one of these is 1 or a multiple of 16, which helps only for strides and columns.
SIZES = ["T", "rows", "height", "width", "tiles", "blocks"]
Step = namedtuple("Step", "rows columns inner height width")  # sizes of a timestep
Affine = namedtuple("Affine", "mean factor shift")  # tdBN of a tile: factor * (z - mean) + shift


@triton.jit
def _narrow(x, type: tl.constexpr):
    """x converted to ``type``, rounded to nearest, ties to even."""
    if INTERPRETED and type == tl.bfloat16:
        # The interpreter truncates; a GPU rounds.
        bits = x.to(tl.float32).to(tl.int32, bitcast=True)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).to(tl.float32, bitcast=True)
    return x.to(type)


@triton.jit
def _columns(columns, BLOCK_C: tl.constexpr):
    """Index of this program's block of rows, its columns (1, BLOCK_C), and a mask of valid columns."""
    blocks = tl.cdiv(columns, BLOCK_C)
    # Both on the first grid axis: the others are limited to 65,535 programs.
    c = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (tl.program_id(0) // blocks).to(tl.int64), c[None, :].to(tl.int64), (c < columns)[None, :]


@triton.jit
def _address(row, c, columns, inner):
    """Offset of (row, column) in a step."""
    return row // inner * inner * columns + row % inner + c * inner


@triton.jit
def _places(block, c, exists, step, POOL: tl.constexpr, WINDOW: tl.constexpr, BLOCK_R: tl.constexpr):
    """Offsets of the tile's neurons and outputs in a step, and a mask of valid neurons; the lanes of a window share an output."""
    lane = tl.arange(0, BLOCK_R * WINDOW)[:, None]
    out = block * BLOCK_R + lane // WINDOW
    window = lane % WINDOW
    if POOL == 1:
        at = _address(out, c, step.columns, step.inner)
        return at, at, (out < step.rows) & exists
    else:
        across, down = step.width // POOL, step.height // POOL
        x = out % across * POOL + window % POOL
        y = out // across % down * POOL + window // POOL
        row = (out // (across * down) * step.height + y) * step.width + x
        return row * step.columns + c, out * step.columns + c, (out < step.rows) & (window < POOL * POOL) & exists


@triton.jit
def _current(z, residual, norm, valid, NORM: tl.constexpr, RESIDUAL: tl.constexpr, wide: tl.constexpr):
    """Current of a tile: z or tdBN(z), plus the residual."""
    current = tl.load(z, mask=valid, other=0.0).to(wide)
    if NORM:
        # Subtract the mean first, which is accurate for large means. fma: bit-identical in forward and backward.
        current = tl.fma(current - norm.mean, norm.factor, norm.shift)
    if RESIDUAL:
        current += tl.load(residual, mask=valid, other=0.0).to(wide)
    return current


@triton.jit
def _remains(u, threshold, RESET: tl.constexpr):
    """The potential after the reset."""
    if RESET == "hard":
        u = tl.where(u >= threshold, 0.0, u)
    if RESET == "soft":
        u = tl.where(u >= threshold, u - threshold, u)
    return u


@triton.jit(do_not_specialize=SIZES)
def moments(z, sums, rows, columns, tiles, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, wide: tl.constexpr):
    """Mean and sum of squared deviations over ``tiles`` tiles of rows: (2, blocks, columns), float64.

    Each lane uses Welford's algorithm, which is accurate for large means; lanes are combined in float64.
    """
    block, c, exists = _columns(columns, BLOCK_C)
    row = block * BLOCK_R * tiles + tl.arange(0, BLOCK_R)[:, None]
    z += row * columns + c
    left = rows - row  # positive if the lane has another row
    mean = tl.zeros((BLOCK_R, BLOCK_C), dtype=wide)
    square = tl.zeros((BLOCK_R, BLOCK_C), dtype=wide)
    count = tl.zeros((1, 1), dtype=wide)
    for _ in range(tiles):
        value = tl.load(z, mask=(left > 0) & exists, other=0.0).to(wide)
        count += 1.0  # rows per lane so far
        share = 1.0 / count
        distance = tl.where(left > 0, value - mean, 0.0)
        mean += distance * share
        square += distance * (value - mean)
        left -= BLOCK_R
        z += BLOCK_R * columns
    weights = tl.minimum(tl.maximum((rows - row + BLOCK_R - 1) // BLOCK_R, 0), tiles).to(tl.float64)
    lanes = mean.to(tl.float64)
    total = tl.sum(weights * lanes, axis=0, keep_dims=True) / tl.sum(weights, axis=0, keep_dims=True)
    around = tl.sum(square.to(tl.float64) + weights * (lanes - total) * (lanes - total), axis=0, keep_dims=True)
    sums += block * columns + c
    tl.store(sums, total, mask=exists)
    tl.store(sums + tl.cdiv(rows, BLOCK_R * tiles) * columns, around, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def forward(
    z, residual, out, mean, factor, shift, beta, v_th, sums,
    T, rows, columns, inner, height, width, z_step, residual_step, out_step, blocks,
    MEASURE: tl.constexpr, RESET: tl.constexpr,
    NORM: tl.constexpr, RESIDUAL: tl.constexpr, POOL: tl.constexpr, WINDOW: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Spikes of all T steps, average-pooled; ``rows`` counts outputs. The membrane potential is held in registers.

    With MEASURE, ``sums`` (2, blocks, columns) receives the sums of u and u^2 over T and a block of rows.
    """
    block, c, exists = _columns(columns, BLOCK_C)
    at, out_at, valid = _places(block, c, exists, Step(rows, columns, inner, height, width), POOL, WINDOW, BLOCK_R)
    decay = tl.load(beta + c, mask=exists, other=0.0)
    centre = tl.load(mean + c, mask=exists, other=0.0)
    norm = Affine(centre, tl.load(factor + c, mask=exists, other=0.0), tl.load(shift + c, mask=exists, other=0.0))
    threshold = tl.load(v_th + c, mask=exists, other=1.0)
    rest = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    out_valid = valid
    if POOL > 1:
        row = block * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
        out_at, out_valid = row * columns + c, (row < rows) & exists
    sum_u = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    sum_squares = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    for _ in range(T):
        current = _current(z + at, residual + at, norm, valid, NORM, RESIDUAL, wide)
        u = tl.fma(decay, rest, current)
        fired = u >= threshold
        rest = _remains(u, threshold, RESET)
        if MEASURE:
            valid_u = tl.where(valid, u, 0.0)
            sum_u += valid_u
            sum_squares += valid_u * valid_u
        spikes = tl.where(fired & valid, 1.0, 0.0).to(wide)
        if POOL > 1:
            spikes = tl.sum(tl.reshape(spikes, (BLOCK_R, WINDOW, BLOCK_C)), axis=1)
            if wide == tl.float32:
                spikes = tl.div_rn(spikes, 1.0 * POOL * POOL)  # float32 division is not correctly rounded by default
            else:
                spikes /= POOL * POOL
        tl.store(out + out_at, _narrow(spikes, out.dtype.element_ty), mask=out_valid)
        z += z_step
        residual += residual_step
        out += out_step
    if MEASURE:
        sums += block * columns + c
        tl.store(sums, tl.sum(sum_u, axis=0, keep_dims=True), mask=exists)
        tl.store(sums + blocks * columns, tl.sum(sum_squares, axis=0, keep_dims=True), mask=exists)


@triton.jit(do_not_specialize=SIZES)
def backward(
    z, residual, grad, mean, factor, shift, beta, v_th, alpha, potential, d_current, sums,
    T, rows, columns, inner, height, width, z_step, residual_step, grad_step, alpha_step, step, blocks,
    RESET: tl.constexpr, THROUGH: tl.constexpr, LEARNED: tl.constexpr,
    SHAPE: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, POOL: tl.constexpr,
    WINDOW: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """du of all T steps, and sums per block of rows and column.

    A forward loop recomputes u into ``potential``; the reverse loop reads it and overwrites it with du if ``d_current`` is the same
    memory. ``sums`` (1 to 4, blocks, columns) receives the gradient of beta; with NORM the sums of du and du (z - mean); with LEARNED
    the gradient of v_th. THROUGH is the reset through whose spikes the gradient flows: RESET, or "none" if it is detached.
    """
    block, c, exists = _columns(columns, BLOCK_C)
    at, out_at, valid = _places(block, c, exists, Step(rows, columns, inner, height, width), POOL, WINDOW, BLOCK_R)
    decay = tl.load(beta + c, mask=exists, other=0.0)
    centre = tl.load(mean + c, mask=exists, other=0.0)
    norm = Affine(centre, tl.load(factor + c, mask=exists, other=0.0), tl.load(shift + c, mask=exists, other=0.0))
    threshold = tl.load(v_th + c, mask=exists, other=1.0)
    rest = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    for _ in range(T):
        u = tl.fma(decay, rest, _current(z + at, residual + at, norm, valid, NORM, RESIDUAL, wide))
        tl.store(potential + at, u, mask=valid)
        rest = _remains(u, threshold, RESET)
        z += z_step
        residual += residual_step
        grad += grad_step
        alpha += alpha_step
        potential += step
        d_current += step
    # Make the stores visible to all threads of the program.
    tl.debug_barrier()
    du = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    sum_decay = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    sum_du = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    sum_product = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    sum_threshold = tl.zeros((BLOCK_R * WINDOW, BLOCK_C), dtype=wide)
    for _ in range(T):
        z -= z_step
        grad -= grad_step
        alpha -= alpha_step
        potential -= step
        d_current -= step
        u = tl.load(potential + at, mask=valid, other=0.0)
        arriving = tl.load(grad + out_at, mask=valid, other=0.0).to(wide)
        if POOL > 1:
            arriving = arriving / (POOL * POOL)
        h = SHAPE(u - threshold, tl.load(alpha + c, mask=exists, other=1.0))
        sum_decay += du * _remains(u, threshold, RESET)
        if THROUGH == "hard":
            arriving -= decay * (du * u)
        if THROUGH == "soft":
            arriving -= decay * (du * threshold)
        later = decay * du
        quiet = tl.where(u < threshold, later, 0.0)
        if RESET == "hard":
            later = quiet
        if LEARNED:
            if RESET == "none":
                sum_threshold += later
            else:
                sum_threshold += quiet
        du = arriving * h + later
        if LEARNED:
            sum_threshold -= du
        tl.store(d_current + at, _narrow(du, d_current.dtype.element_ty), mask=valid)
        if NORM:
            sum_du += du
            sum_product += du * (tl.load(z + at, mask=valid, other=0.0).to(wide) - centre)
    sums += block * columns + c
    tl.store(sums, tl.sum(sum_decay, axis=0, keep_dims=True), mask=exists)
    if NORM:
        sums += blocks * columns
        tl.store(sums, tl.sum(sum_du, axis=0, keep_dims=True), mask=exists)
        sums += blocks * columns
        tl.store(sums, tl.sum(sum_product, axis=0, keep_dims=True), mask=exists)
    if LEARNED:
        sums += blocks * columns
        tl.store(sums, tl.sum(sum_threshold, axis=0, keep_dims=True), mask=exists)


@triton.jit(do_not_specialize=SIZES)
def input_gradient(
    z, du, dz, mean, by_du, by_distance, always,
    rows, columns, z_step, step,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """dz = by_du * du + by_distance * (z - mean) + always, per channel; one step per program. dz may be the memory of du."""
    block, c, exists = _columns(columns, BLOCK_C)
    t = tl.program_id(1).to(tl.int64)
    row = block * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    at = row * columns + c
    valid = (row < rows) & exists
    distance = tl.load(z + t * z_step + at, mask=valid, other=0.0).to(wide) - tl.load(mean + c, mask=exists, other=0.0)
    value = tl.fma(
        tl.load(by_du + c, mask=exists, other=0.0),
        tl.load(du + t * step + at, mask=valid, other=0.0).to(wide),
        tl.fma(tl.load(by_distance + c, mask=exists, other=0.0), distance, tl.load(always + c, mask=exists, other=0.0)),
    )
    tl.store(dz + t * step + at, _narrow(value, dz.dtype.element_ty), mask=valid)
