"""Loops over one run of contiguous elements, each short enough for the compiler to vectorise.

Each loop writes at most two arrays, because more would need too many overlap checks to be vectorised. The output of a stage is still
in the L1 cache for the next. Per-channel vectors are repeated to the length of the run, so the loops are equally long for 3 and for 512
channels. Reassociation is disabled: results are those of the loops as written.

Legend: u membrane potential, v_th threshold; the current is I = scale z + shift for the convolution's output z.
"""

import numpy as np

from lsgcli.neurons.kernels.cpu.intrinsics import doubles, get, loop, put

ZERO, ONE = np.float32(0), np.float32(1)
# mypy: disable-error-code="no-untyped-def"


@loop
def spike(u, v_th):
    """o = 1 if u >= v_th else 0."""
    return ONE if u >= v_th else ZERO


@loop
def after_reset(u, v_th):
    """u (1 - o): the potential that remains after the reset."""
    return ZERO if u >= v_th else u


@loop
def integrate(u, before, z, scale, shift, beta, v_th, n):
    """u = scale z + shift + beta * (what remains of ``before``); ``before`` may be ``u``."""
    for j in range(n):
        u[j] = get(z, j) * scale[j] + shift[j] + after_reset(before[j], v_th) * beta[j]


@loop
def integrate_two(u, before, z, residual, scale, shift, beta, v_th, n):
    """As :func:`integrate`, with the residual added."""
    for j in range(n):
        u[j] = get(z, j) * scale[j] + shift[j] + get(residual, j) + after_reset(before[j], v_th) * beta[j]


@loop
def step_back(shape, du, u, g, half, inverse, beta, v_th, n):
    """du = do h(u - v_th) + beta (1 - o) du[t+1], with do = g - beta u du[t+1]; on entry du is du[t+1]."""
    for j in range(n):
        later = du[j] * beta[j]
        h = shape(u[j] - v_th, half[j], inverse[j])
        du[j] = (g[j] - later * u[j]) * h + (ZERO if u[j] >= v_th else later)


@loop
def add_beta(total, du, before, v_th, n):
    """Add du * u[t-1] (1 - o[t-1]), the gradient of beta."""
    for j in range(n):
        total[j] += du[j] * after_reset(before[j], v_th)


@loop
def fire(out, u, v_th, n):
    """Write the spikes."""
    for j in range(n):
        put(out, j, spike(u[j], v_th))


@loop
def count(total, u, v_th, n):
    """Add the spikes to the total."""
    for j in range(n):
        total[j] += spike(u[j], v_th)


@loop
def add_squares(total, squares, u, n):
    """Add u, and its square."""
    for j in range(n):
        x = u[j]
        total[j] += x
        squares[j] += x * x


@loop
def average(out, total, area, side, channels, columns):
    """Average pooling: mean over ``side`` adjacent columns of row totals, for ``columns`` outputs of ``channels`` elements."""
    for w in range(columns):
        target = out[w * channels : (w + 1) * channels]
        for q in range(1, side):
            into = total[w * side * channels : (w * side + 1) * channels]
            other = total[(w * side + q) * channels : (w * side + q + 1) * channels]
            for c in range(channels):
                into[c] += other[c]
        mean = total[w * side * channels : (w * side + 1) * channels]
        for c in range(channels):
            put(target, c, mean[c] / area)


@loop
def spread(g, grad, area, side, channels, columns):
    """Gradient of :func:`average`: each of ``columns`` outputs passes 1/area of its gradient to ``side`` columns."""
    for w in range(columns):
        source = grad[w * channels : (w + 1) * channels]
        for q in range(side):
            target = g[(w * side + q) * channels : (w * side + q + 1) * channels]
            for c in range(channels):
                target[c] = get(source, c) / area


@loop
def widen(g, grad, n):
    """g = grad in float32."""
    for j in range(n):
        g[j] = get(grad, j)


@loop
def add_moments(total, weighted, du, z, mean, n):
    """Add du, and du (z - mean)."""
    for j in range(n):
        d = du[j]
        total[j] += d
        weighted[j] += d * (get(z, j) - mean[j])


@loop
def write(out, du, n):
    """out = du, rounded to its type."""
    for j in range(n):
        put(out, j, du[j])


@loop
def write_scaled(out, du, scale, n):
    """out = scale du."""
    for j in range(n):
        put(out, j, du[j] * scale[j])


@loop
def through_statistics(out, du, z, scale, mean, slope, offset, n):
    """out = scale du + slope (z - mean) + offset: the gradient of z including that through the batch statistics."""
    for j in range(n):
        out[j] = du[j] * scale[j] + (get(z, j) - mean[j]) * slope[j] + offset[j]


@loop
def add_deviations(total, squares, z, origin, n):
    """Add z - origin, and its square."""
    for j in range(n):
        d = get(z, j) - origin[j]
        total[j] += d
        squares[j] += d * d


@loop
def fold(address, run, channels, n):
    """Add the elements of a run to float64 sums per channel at an address, in order, and zero the run."""
    sums = doubles(address, channels)
    for first in range(0, n, channels):
        part = run[first : first + channels]
        for c in range(channels):
            sums[c] += part[c]
            part[c] = ZERO
