"""Statistics of neurons, computed while their membrane potentials are in the cache. Only marks are stored per neuron.

Sums over a run are float32 in any order that vectorises; sums over runs are float64.
"""

import numpy as np
from numba import carray
from numba.extending import register_jitable

from lsgcli.neurons.kernels.cpu.intrinsics import get, loop, pointer
from lsgcli.neurons.kernels.cpu.job import BINS, FIRED, HIGHEST, LOWEST, PLACES, SILENT, STEP
from lsgcli.neurons.kernels.cpu.stages import width_at

# mypy: disable-error-code="no-untyped-def"
PER_UNIT, FIRST = np.float32(BINS / (HIGHEST - LOWEST)), np.float32(1 - LOWEST * BINS / (HIGHEST - LOWEST))
ZERO, ONE, LAST = np.float32(0), np.float32(1), np.float32(BINS + 1)
BYTES = STEP.itemsize
reduction = register_jitable(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})


@loop
def sums_of(job, chunk, t):
    """The sums of a chunk at step t, a record of SUMS."""
    return carray(pointer(job.sums + BYTES * (chunk * job.T + t)), (1,), STEP)[0]


@loop
def observe(job, x, shape, membrane, width, chunk, neurons):
    """Add the statistics of m neurons to those of a chunk, from ``here`` in a step and from ``at_u`` in each row of ``membrane``."""
    here, at_u, m = neurons
    currents = np.empty((2, m), np.float32)
    histogram = carray(pointer(job.histogram + 8 * chunk * PLACES), (PLACES,), np.int64)
    marks = carray(pointer(job.marks + here), (m,), np.uint8)
    if job.histogram:
        drive(job, x, currents[0], 0, here, m)
    for t in range(job.T):
        sums, u, width_t = sums_of(job, chunk, t), membrane[t, at_u : at_u + m], width_at(width, t * job.width_step, m)
        add_spikes(sums, u, width_t.half, job.v_th, m)
        if job.histogram:
            add_powers(sums, u, m)
            add_heights(sums, shape, u, width_t, job.v_th, m)
            sort_in(histogram, u, PER_UNIT / job.v_th, m)
            mark(marks, u, job.v_th, m)
            current, following = currents[t % 2], currents[(t + 1) % 2]
            if t + 1 < job.T:
                drive(job, x, following, t + 1, here, m)
            add_currents(sums, current, following, m)


@loop
def drive(job, x, current, t, here, m):
    """current = I[t] = scale z + shift + residual."""
    at_z, at_a = t * job.z_step + here, t * job.step + here
    for j in range(m):
        current[j] = get(x.z, at_z + j) * x.scale[j] + x.shift[j]
    if job.residual:
        for j in range(m):
            current[j] += get(x.residual, at_a + j)


@reduction
def add_spikes(sums, u, half, v_th, n):
    """Count spikes, and potentials inside the interval."""
    spikes, inside = ZERO, ZERO
    for j in range(n):
        spikes += ONE if u[j] >= v_th else ZERO
        inside += ONE if abs(u[j] - v_th) < half[j] else ZERO
    sums.spikes += spikes
    sums.inside += inside


@reduction
def add_powers(sums, u, n):
    """Sums of u, u^2 and u^3."""
    first, second, third = ZERO, ZERO, ZERO
    for j in range(n):
        first += u[j]
        second += u[j] * u[j]
        third += u[j] * u[j] * u[j]
    sums.u += first
    sums.u_squared += second
    sums.u_cubed += third


@reduction
def add_heights(sums, shape, u, width, v_th, n):
    """Sums of h and h^2."""
    first, second = ZERO, ZERO
    for j in range(n):
        h = shape(u[j] - v_th, width.half[j], width.inverse[j])
        first += h
        second += h * h
    sums.h += first
    sums.h_squared += second


@reduction
def add_currents(sums, current, following, n):
    """Sums of I[t], I[t]^2 and I[t] I[t+1]; the product of the last step is meaningless."""
    first, second, product = ZERO, ZERO, ZERO
    for j in range(n):
        first += current[j]
        second += current[j] * current[j]
        product += current[j] * following[j]
    sums.current += first
    sums.current_squared += second
    sums.product += product


@reduction
def add_nonzero(sums, du, n):
    """Count the nonzero entries of du."""
    total = ZERO
    for j in range(n):
        total += ONE if du[j] != ZERO else ZERO
    sums.du += total


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
