"""Loops over one run of contiguous elements, each short enough for the compiler to vectorise.

More than one or two arrays written in a loop would need more checks for overlap than it is willing to make. What a stage leaves
for the next is still in the first-level cache. Vectors per channel come repeated to the length of the run, so that the
loops are as long for 3 channels as for 512. No reassociation is allowed anywhere: the results are those of the loops as written.

Legend: u membrane potential, v_th threshold; scale and shift make the current of the convolution's output, I = scale z + shift.
"""

import numpy as np

from lsgcli.neurons.kernels.cpu.intrinsics import get, loop, put

ZERO, ONE = np.float32(0), np.float32(1)
# mypy: disable-error-code="no-untyped-def"


@loop
def integrate(u, before, z, scale, shift, beta, v_th, n):
    """u = scale z + shift + beta (before, or 0 where that fired); ``before`` may be ``u``."""
    for j in range(n):
        b = before[j]
        u[j] = get(z, j) * scale[j] + shift[j] + (ZERO if b >= v_th else b) * beta[j]


@loop
def integrate_two(u, before, z, residual, scale, shift, beta, v_th, n):
    """The same with a second current."""
    for j in range(n):
        b = before[j]
        u[j] = get(z, j) * scale[j] + shift[j] + get(residual, j) + (ZERO if b >= v_th else b) * beta[j]


@loop
def add_squares(total, squares, u, n):
    """Add u, and its square."""
    for j in range(n):
        x = u[j]
        total[j] += x
        squares[j] += x * x


@loop
def fire(out, u, v_th, n):
    """out = 1 where u reaches v_th, else 0."""
    for j in range(n):
        put(out, j, ONE if u[j] >= v_th else ZERO)


@loop
def count(total, u, v_th, n):
    """Add 1 to the total where u reaches v_th."""
    for j in range(n):
        total[j] += ONE if u[j] >= v_th else ZERO


@loop
def average(out, total, area, side, channels, columns):
    """Means of ``side`` neighbouring columns of the total over rows: ``columns`` of them, of ``channels`` elements each."""
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
    """The gradient of ``average``: each of ``columns`` pooled positions gives 1/area of its gradient to ``side`` columns."""
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
def step_back(shape, du, u, g, half, inverse, beta, v_th, n):
    """du = do h(u - v_th) + beta (1 - o) du[t+1], where du comes as du[t+1], and do = g - beta u du[t+1]."""
    for j in range(n):
        later = du[j] * beta[j]
        h = shape(u[j] - v_th, half[j], inverse[j])
        du[j] = (g[j] - later * u[j]) * h + (ZERO if u[j] >= v_th else later)


@loop
def add_beta(total, du, before, v_th, n):
    """Add du times what the step before left, the derivative of u with respect to beta."""
    for j in range(n):
        b = before[j]
        total[j] += du[j] * (ZERO if b >= v_th else b)


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
    """out = scale du + slope (z - mean) + offset: also what the batch's own statistics pass back."""
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
def fold(sums, run, channels, n):
    """Add the elements of a run to float64 sums per channel, in order; the run is then 0."""
    for first in range(0, n, channels):
        part = run[first : first + channels]
        for c in range(channels):
            sums[c] += part[c]
            part[c] = ZERO
