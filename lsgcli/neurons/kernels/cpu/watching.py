"""The worker that computes statistics of a layer: sums over potentials, currents and gradients; only marks are per neuron.

It iterates over blocks and chunks like the workers in ``lsgcli.neurons.kernels.cpu.workers``. Sums over a run are float32 in any order
that vectorises; sums over runs are float64.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from lsgcli.neurons.kernels.cpu.bins import BINS, HIGHEST, LOWEST
from lsgcli.neurons.kernels.cpu.blocks import arrive, extent, recompute
from lsgcli.neurons.kernels.cpu.intrinsics import doubles, fetch_and_add, floats, get, loop, pointer
from lsgcli.neurons.kernels.cpu.stages import step_back
from lsgcli.neurons.kernels.cpu.workers import Worker

PLACES = BINS + 2  # including underflow and overflow
SUMS = ("spikes", "inside", "u", "u_squared", "u_cubed", "h", "h_squared", "current", "current_squared", "product", "du")
PER_UNIT, FIRST = np.float32(BINS / (HIGHEST - LOWEST)), np.float32(1 - LOWEST * BINS / (HIGHEST - LOWEST))
ZERO, ONE, LAST = np.float32(0), np.float32(1), np.float32(BINS + 1)
FIRED, SILENT = np.uint8(1), np.uint8(2)  # marks: fired at any step; silent at any step
reduction = register_jitable(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
# mypy: disable-error-code="no-untyped-def"


@loop
def drive(job, current, z, residual, scale, shift, t, here, m):
    """current = I[t] = scale z + shift + residual."""
    at_z, at_a = t * job.z_step + here, t * job.step + here
    for j in range(m):
        current[j] = get(z, at_z + j) * scale[j] + shift[j]
    if job.residual:
        for j in range(m):
            current[j] += get(residual, at_a + j)


@reduction
def add_spikes(sums, u, half, v_th, n):
    """Count spikes, and potentials inside the interval."""
    spikes, inside = ZERO, ZERO
    for j in range(n):
        spikes += ONE if u[j] >= v_th else ZERO
        inside += ONE if abs(u[j] - v_th) < half[j] else ZERO
    sums[0] += spikes
    sums[1] += inside


@reduction
def add_powers(sums, u, n):
    """Sums of u, u^2 and u^3."""
    first, second, third = ZERO, ZERO, ZERO
    for j in range(n):
        first += u[j]
        second += u[j] * u[j]
        third += u[j] * u[j] * u[j]
    sums[2] += first
    sums[3] += second
    sums[4] += third


@reduction
def add_heights(sums, shape, u, half, inverse, v_th, n):
    """Sums of h and h^2."""
    first, second = ZERO, ZERO
    for j in range(n):
        h = shape(u[j] - v_th, half[j], inverse[j])
        first += h
        second += h * h
    sums[5] += first
    sums[6] += second


@reduction
def add_currents(sums, current, following, n):
    """Sums of I[t], I[t]^2 and I[t] I[t+1]; the product of the last step is meaningless."""
    first, second, product = ZERO, ZERO, ZERO
    for j in range(n):
        first += current[j]
        second += current[j] * current[j]
        product += current[j] * following[j]
    sums[7] += first
    sums[8] += second
    sums[9] += product


@reduction
def add_nonzero(sums, du, n):
    """Count the nonzero entries of du."""
    total = ZERO
    for j in range(n):
        total += ONE if du[j] != ZERO else ZERO
    sums[10] += total


@loop
def sort_in(histogram, u, per_v_th, n):
    """Add u / v_th to the histogram."""
    for j in range(n):
        place = u[j] * per_v_th + FIRST
        place = min(place, LAST) if place > ZERO else ZERO  # NaN counts as below
        histogram[np.int32(place)] += 1


@loop
def mark(marks, u, v_th, n):
    """Mark neurons that fired and neurons that were silent."""
    for j in range(n):
        marks[j] |= FIRED if u[j] >= v_th else SILENT


def watch(dtype: type, shape: Any) -> Worker:
    """A worker that adds to ``sums``, (chunks, T, SUMS) float64: always the first two; the last only with ``grad``; the others only
    with ``histogram``, (chunks, PLACES) int64, and then it also sets ``marks``, uint8 per neuron and sample."""
    n_sums = len(SUMS)

    def worker(at):
        job = carray(at, (1,))[0]
        run, row, side, period, T, v_th = job.run, job.row, job.side, job.period, job.T, job.v_th
        z = carray(pointer(job.z), (job.size,), dtype)
        residual = carray(pointer(job.residual), (T * job.step,), dtype)
        grad = carray(pointer(job.grad), (T * job.out_step,), dtype)
        marks = carray(pointer(job.marks), (job.step,), np.uint8)
        scale, shift, beta = floats(job.scale, period), floats(job.shift, period), floats(job.beta, period)
        widths = job.width_step * (T - 1) + period
        halves, inverses = floats(job.half, widths), floats(job.inverse, widths)
        membrane, currents = np.empty((T, job.rows * run), np.float32), np.zeros((2, period), np.float32)
        rest, per_v_th = np.zeros(period, np.float32), PER_UNIT / v_th
        carried, g = np.empty(job.rows * run, np.float32), np.empty(period, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            sums = doubles(job.sums + 8 * chunk * T * n_sums, T * n_sums)
            histogram = carray(pointer(job.histogram + 8 * chunk * PLACES), (PLACES,), np.int64)
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first, left, rows, n = extent(job, block)
                recompute(job, block, membrane, rest, z, residual, scale, shift, beta)
                for r in range(rows):
                    for at_n in range(0, n, period):
                        m, at_u, here = min(period, n - at_n), r * run + at_n, (first + r) * row + left + at_n
                        if job.histogram:
                            drive(job, currents[0], z, residual, scale, shift, 0, here, m)
                        for t in range(T):
                            own, u = sums[t * n_sums : (t + 1) * n_sums], membrane[t, at_u : at_u + m]
                            at_w = t * job.width_step
                            half, inverse = halves[at_w : at_w + period], inverses[at_w : at_w + period]
                            add_spikes(own, u, half, v_th, m)
                            if job.histogram:
                                add_powers(own, u, m)
                                add_heights(own, shape, u, half, inverse, v_th, m)
                                sort_in(histogram, u, per_v_th, m)
                                mark(marks[here : here + m], u, v_th, m)
                                current, following = currents[t % 2], currents[(t + 1) % 2]
                                if t + 1 < T:
                                    drive(job, following, z, residual, scale, shift, t + 1, here, m)
                                add_currents(own, current, following, m)
                if not job.grad:
                    continue
                carried[:] = ZERO
                for t in range(T - 1, -1, -1):
                    own, at_w = sums[t * n_sums : (t + 1) * n_sums], t * job.width_step
                    half, inverse = halves[at_w : at_w + period], inverses[at_w : at_w + period]
                    for group in range(0, rows, side):
                        for at_n in range(0, n, period):
                            m = min(period, n - at_n)
                            arrive(job, g, grad, t, first + group, left + at_n, m)
                            for r in range(group, group + side):
                                at_u = r * run + at_n
                                du = carried[at_u : at_u + m]
                                step_back(shape, du, membrane[t, at_u : at_u + m], g, half, inverse, beta, v_th, m)
                                add_nonzero(own, du, m)

    return worker
