"""Loops over one run of contiguous elements, each short enough for the compiler to vectorise.

Each loop writes at most two arrays, because more would need too many overlap checks to be vectorised. The output of a stage is still
in the L1 cache for the next. Per-channel vectors are repeated to the length of the run, so the loops are equally long for 3 and for 512
channels. Reassociation is disabled: results are those of the loops as written.

Legend: u membrane potential, v_th threshold; the current is I = scale z + shift for the convolution's output z; ``later`` is
beta du[t+1]. A :class:`Reset` is passed as its functions, which the compiler inlines, so that each reset has its own kernels. Arrays that
belong together are passed as a named tuple, at no cost.
"""

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np

from lsgcli.neurons.kernels.cpu.intrinsics import doubles, get, loop, put

ZERO, ONE = np.float32(0), np.float32(1)
# mypy: disable-error-code="no-untyped-def"


@loop
def spike(u, v_th):
    """o = 1 if u >= v_th else 0."""
    return ONE if u >= v_th else ZERO


@loop
def zero_if_fired(x, u, v_th):
    """x (1 - o)."""
    return ZERO if u >= v_th else x


@loop
def unchanged(x, u, v_th):
    """x."""
    return x


@loop
def threshold_less(x, u, v_th):
    """x - v_th o."""
    return x - v_th if u >= v_th else x


@loop
def hard_gradient(g, later, h, u, v_th):
    """(g - beta u du[t+1]) h + beta (1 - o) du[t+1]."""
    return (g - later * u) * h + zero_if_fired(later, u, v_th)


@loop
def hard_gradient_detached(g, later, h, u, v_th):
    """g h + beta (1 - o) du[t+1]."""
    return g * h + zero_if_fired(later, u, v_th)


@loop
def soft_gradient(g, later, h, u, v_th):
    """(g - beta v_th du[t+1]) h + beta du[t+1]."""
    return (g - later * v_th) * h + later


@loop
def plain_gradient(g, later, h, u, v_th):
    """g h + beta du[t+1]."""
    return g * h + later


Inputs = namedtuple("Inputs", "z residual scale shift beta")  # z and residual of all steps; vectors of a period
Width = namedtuple("Width", "half inverse")  # half the surrogate's width, and 1 / width


class Reset(NamedTuple):
    """A reset, as functions of one element.

    Attributes:
        remains: (x, u, v_th) -> what remains of x after the reset by the spikes of u.
        gradient: (g, later, h, u, v_th) -> du.
        detached: the same without the gradient through the spikes of the reset.
        of_threshold: (later, u, v_th) -> what du[t+1] adds to the gradient of v_th, from which :func:`subtract` takes du.
    """

    remains: Any
    gradient: Any
    detached: Any
    of_threshold: Any


RESETS = {
    "hard": Reset(zero_if_fired, hard_gradient, hard_gradient_detached, zero_if_fired),
    "soft": Reset(threshold_less, soft_gradient, plain_gradient, zero_if_fired),
    "none": Reset(unchanged, plain_gradient, plain_gradient, unchanged),
}


@loop
def integrate(remains, u, before, z, x, v_th, n):
    """u = scale z + shift + beta * (what remains of ``before``); z is of one step, ``before`` may be ``u``."""
    for j in range(n):
        u[j] = get(z, j) * x.scale[j] + x.shift[j] + remains(before[j], before[j], v_th) * x.beta[j]


@loop
def integrate_two(remains, u, before, z, residual, x, v_th, n):
    """As :func:`integrate`, with the residual added."""
    for j in range(n):
        u[j] = get(z, j) * x.scale[j] + x.shift[j] + get(residual, j) + remains(before[j], before[j], v_th) * x.beta[j]


@loop
def width_at(width, at, n):
    """The widths of n elements from ``at``."""
    return Width(width.half[at : at + n], width.inverse[at : at + n])


@loop
def step_back(shape, gradient, du, u, g, width, beta, v_th):
    """Advance du from step t+1 to t."""
    for j in range(len(du)):
        h = shape(u[j] - v_th, width.half[j], width.inverse[j])
        du[j] = gradient(g[j], du[j] * beta[j], h, u[j], v_th)


@loop
def add_beta(remains, total, du, before, v_th, n):
    """Add du * (what remains of u[t-1]), the gradient of beta."""
    for j in range(n):
        total[j] += du[j] * remains(before[j], before[j], v_th)


@loop
def add_later(of_threshold, total, du, u, beta, v_th, n):
    """Add the part of the gradient of v_th that follows from du[t+1], which is ``du``."""
    for j in range(n):
        total[j] += of_threshold(du[j] * beta[j], u[j], v_th)


@loop
def subtract(total, du, n):
    """Subtract du."""
    for j in range(n):
        total[j] -= du[j]


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
            addend = total[(w * side + q) * channels : (w * side + q + 1) * channels]
            for c in range(channels):
                into[c] += addend[c]
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
def add_moments(total, weighted, du, z, mean, n):
    """Add du, and du (z - mean)."""
    for j in range(n):
        d = du[j]
        total[j] += d
        weighted[j] += d * (get(z, j) - mean[j])


@loop
def write(out, x, n):
    """out = x, rounded to its type."""
    for j in range(n):
        put(out, j, get(x, j))


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
