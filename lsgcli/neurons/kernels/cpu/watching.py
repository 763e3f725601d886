"""The worker that counts what a layer of neurons does: sums over its potentials, currents and gradients, nothing per neuron but marks.

It goes through blocks and chunks as those of ``lsgcli.neurons.kernels.cpu.workers`` do. Sums over a run may be taken in any order
that vectorises, of float32; those over runs are float64.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from lsgcli.neurons.kernels.cpu.stages import spread, step_back, widen
from lsgcli.neurons.kernels.cpu.words import doubles, fetch_and_add, floats, get, loop, pointer
from lsgcli.neurons.kernels.cpu.workers import Worker

# Of the histogram, in units of v_th: 1 is the threshold, and the paper's interval lies within [-0.42, 2.42].
LOWEST, HIGHEST, BINS = -4.0, 6.0, 100
PLACES = BINS + 2  # with one for everything below, and one for everything above
SUMS = ("spikes", "inside", "u", "u_squared", "u_cubed", "h", "h_squared", "current", "current_squared", "product", "du")
PER_UNIT, FIRST = np.float32(BINS / (HIGHEST - LOWEST)), np.float32(1 - LOWEST * BINS / (HIGHEST - LOWEST))
ZERO, ONE, LAST = np.float32(0), np.float32(1), np.float32(BINS + 1)
FIRED, SILENT = np.uint8(1), np.uint8(2)  # marks: fired at some step; was silent at some step
reduction = register_jitable(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
# mypy: disable-error-code="no-untyped-def"


@loop
def drive(current, z, scale, shift, n):
    """current = scale z + shift."""
    for j in range(n):
        current[j] = get(z, j) * scale[j] + shift[j]


@loop
def add(current, addend, n):
    """current += addend."""
    for j in range(n):
        current[j] += get(addend, j)


@loop
def leak(u, before, current, beta, v_th, n):
    """u = current + beta (before, or 0 where that fired)."""
    for j in range(n):
        b = before[j]
        u[j] = current[j] + (ZERO if b >= v_th else b) * beta[j]


@reduction
def add_spikes(sums, u, half, v_th, n):
    """Spikes, and potentials inside the interval."""
    spikes, inside = ZERO, ZERO
    for j in range(n):
        spikes += ONE if u[j] >= v_th else ZERO
        inside += ONE if abs(u[j] - v_th) < half[j] else ZERO
    sums[0] += spikes
    sums[1] += inside


@reduction
def add_powers(sums, u, n):
    """u, u^2 and u^3."""
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
    """h and h^2."""
    first, second = ZERO, ZERO
    for j in range(n):
        h = shape(u[j] - v_th, half[j], inverse[j])
        first += h
        second += h * h
    sums[5] += first
    sums[6] += second


@reduction
def add_currents(sums, current, following, n):
    """I[t], I[t]^2, and I[t] I[t+1]."""
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
    """How many entries of du are not exactly zero."""
    total = ZERO
    for j in range(n):
        total += ONE if du[j] != ZERO else ZERO
    sums[10] += total


@loop
def sort_in(histogram, u, per_v_th, n):
    """Add u / v_th to the histogram."""
    for j in range(n):
        place = u[j] * per_v_th + FIRST
        place = min(place, LAST) if place > ZERO else ZERO  # also what is no number
        histogram[np.int32(place)] += 1


@loop
def mark(marks, u, v_th, n):
    """Note who fired and who did not."""
    for j in range(n):
        marks[j] |= FIRED if u[j] >= v_th else SILENT


def watch(words: type, shape: Any) -> Worker:
    """Adds to ``sums``, (chunks, T, SUMS) float64: the last where there is a ``grad``, and those between the first two and the last
    where there is a ``histogram``, (chunks, PLACES) int64; then also to ``marks``, uint8 for each neuron and sample."""
    n_sums = len(SUMS)

    def worker(at):
        job = carray(at, (1,))[0]
        run, side, T, v_th = job.run, job.side, job.T, job.v_th
        z = carray(pointer(job.z), (job.size,), words)
        addend = carray(pointer(job.addend), (T * job.step,), words)
        grad = carray(pointer(job.grad), (T * job.out_step,), words)
        marks = carray(pointer(job.marks), (job.step,), np.uint8)
        scale, shift, beta = floats(job.scale, run), floats(job.shift, run), floats(job.beta, run)
        widths = job.width_step * (T - 1) + run
        halves, inverses = floats(job.half, widths), floats(job.inverse, widths)
        membrane, currents = np.empty((T, run * side), np.float32), np.zeros((T + 1, run), np.float32)
        rest, per_v_th = np.zeros(run, np.float32), PER_UNIT / v_th
        carried, g = np.empty((side, run), np.float32), np.empty(run, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            sums = doubles(job.sums + 8 * chunk * T * n_sums, T * n_sums)
            histogram = carray(pointer(job.histogram + 8 * chunk * PLACES), (PLACES,), np.int64)
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                group, piece = block // job.pieces, block % job.pieces
                start = group * side * job.row + piece * run
                n = min(run, job.row - piece * run)
                for p in range(side):
                    place = start + p * job.row
                    for t in range(T):
                        u = membrane[t, p * run : (p + 1) * run]
                        before = membrane[t - 1, p * run : (p + 1) * run] if t > 0 else rest
                        at_z = t * job.z_step + place
                        drive(currents[t], z[at_z : at_z + n], scale, shift, n)
                        if job.addend:
                            at_a = t * job.step + place
                            add(currents[t], addend[at_a : at_a + n], n)
                        leak(u, before, currents[t], beta, v_th, n)
                        own = sums[t * n_sums : (t + 1) * n_sums]
                        at_w = t * job.width_step
                        half, inverse = halves[at_w : at_w + run], inverses[at_w : at_w + run]
                        add_spikes(own, u, half, v_th, n)
                        if job.histogram:
                            add_powers(own, u, n)
                            add_heights(own, shape, u, half, inverse, v_th, n)
                            sort_in(histogram, u, per_v_th, n)
                            mark(marks[place : place + n], u, v_th, n)
                    if job.histogram:
                        for t in range(T):
                            add_currents(sums[t * n_sums : (t + 1) * n_sums], currents[t], currents[t + 1], n)
                if not job.grad:
                    continue
                carried[:] = ZERO
                for t in range(T - 1, -1, -1):
                    if side > 1:
                        at_g = t * job.out_step + group * (job.row // side) + piece * (run // side)
                        spread(g, grad[at_g : at_g + n // side], job.area, side, job.channels, n // side // job.channels)
                    else:
                        at_g = t * job.step + start
                        widen(g, grad[at_g : at_g + n], n)
                    at_w = t * job.width_step
                    half, inverse = halves[at_w : at_w + run], inverses[at_w : at_w + run]
                    for p in range(side):
                        step_back(shape, carried[p], membrane[t, p * run : (p + 1) * run], g, half, inverse, beta, v_th, n)
                        add_nonzero(sums[t * n_sums : (t + 1) * n_sums], carried[p], n)

    return worker
