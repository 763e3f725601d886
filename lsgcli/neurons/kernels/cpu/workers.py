"""The kernels. Each thread repeatedly takes a chunk of blocks and runs all timesteps of each block while it is in cache.

Memory is (T, rows, C), channels innermost; a row is an image row if spikes are pooled, otherwise the whole step. A *block* is a
piece of a row, or several rows, a multiple of the height of the pooling window; loops process a *period* at a time. A *chunk* is a
fixed number of blocks with its own sums, so results do not depend on which thread runs it. A worker is a C function with one argument,
a pointer to a :data:`JOB`.

Legend: ``here`` is the index of an element in a step; m elements from there, at most a period, are processed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

from lsgcli.neurons.kernels.cpu import watching
from lsgcli.neurons.kernels.cpu.intrinsics import fetch_and_add, floats, loop, pointer, uncounted
from lsgcli.neurons.kernels.cpu.job import JOB
from lsgcli.neurons.kernels.cpu.stages import (
    RESETS,
    Inputs,
    Width,
    add_beta,
    add_deviations,
    add_later,
    add_moments,
    add_squares,
    average,
    count,
    fire,
    fold,
    integrate,
    integrate_two,
    spread,
    step_back,
    subtract,
    through_statistics,
    width_at,
    write,
    write_scaled,
)

# mypy: disable-error-code="no-untyped-def"
SIGNATURE = types.void(types.CPointer(from_dtype(JOB)))
ZERO = np.float32(0)
Worker = Callable[[Any], None]


@loop
def inputs_of(job, dtype, residual):
    """The input of the neurons as arrays of two types."""
    return Inputs(
        carray(pointer(job.z), (job.size,), dtype),
        carray(pointer(job.residual), (job.T * job.step,), residual),
        floats(job.scale, job.period),
        floats(job.shift, job.period),
        floats(job.beta, job.period),
    )


@loop
def extent(job, block):
    """First row of a block, offset in that row, number of rows, and elements per row."""
    first, left = block // job.pieces * job.rows, block % job.pieces * job.run
    return first, left, min(job.rows, job.step // job.row - first), min(job.run, job.row - left)


@loop
def advance(remains, job, x, u, before, t, here, m):
    """u at step t, from the potential ``before`` at step t - 1."""
    at_z, at_a = t * job.z_step + here, t * job.step + here
    if job.residual:
        residual = x.residual[at_a : at_a + m]
        integrate_two(remains, u, before, x.z[at_z : at_z + m], residual, x, job.v_th, m)
    else:
        integrate(remains, u, before, x.z[at_z : at_z + m], x, job.v_th, m)


@loop
def recompute(remains, job, x, block, membrane, rest):
    """Membrane potentials of a block at all steps, (T, rows x run); ``rest`` is a period of zeros."""
    first, left, rows, n = extent(job, block)
    for t in range(job.T):
        for r in range(rows):
            for at_n in range(0, n, job.period):
                m, at_u = min(job.period, n - at_n), r * job.run + at_n
                before = membrane[t - 1, at_u : at_u + m] if t > 0 else rest[:m]
                advance(remains, job, x, membrane[t, at_u : at_u + m], before, t, (first + r) * job.row + left + at_n, m)


@loop
def arrive(job, g, grad, t, row, at, m):
    """g = dL/do of m elements of an image row, or of each row of the pooling window that begins there, from element ``at``."""
    at_g = t * job.out_step + row // job.side * (job.row // job.side) + at // job.side
    source = grad[at_g : at_g + m // job.side]
    if job.side > 1:
        spread(g, source, job.area, job.side, job.channels, m // job.side // job.channels)
    else:
        write(g, source, m)


@loop
def fold_moments(job, chunk, first, second, n):
    """Fold two runs into the ``moments`` of a chunk."""
    at = job.moments + 16 * chunk * job.channels
    fold(at, first, job.channels, n)
    fold(at + 8 * job.channels, second, job.channels, n)


def statistics(dtype: type) -> Worker:
    """A worker for the sums of z - origin and of its square, per chunk and channel, in float64."""

    def worker(at):
        job = carray(at, (1,))[0]
        run = job.period
        z, origin = carray(pointer(job.z), (job.size,), dtype), floats(job.mean, run)
        total, squares = np.zeros(run, np.float32), np.zeros(run, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for at_n in range(chunk * job.per_chunk * run, min((chunk + 1) * job.per_chunk * run, job.size), run):
                n = min(run, job.size - at_n)
                add_deviations(total, squares, z[at_n : at_n + n], origin, n)
            fold_moments(job, chunk, total, squares, run)

    return worker


def forward(dtype: type, residual: type, spikes: type, reset: str) -> Worker:
    """A worker for the forward pass: spikes, average-pooled if set; ``moments`` receives sums of u and u^2 per chunk and channel.

    u of the last step is written to ``after``; the first step follows u of ``before``, by default 0.

    Args:
        dtype, residual, spikes: types of z, of the residual, and of the output.
        reset: name of the reset.
    """
    remains = RESETS[reset].remains

    def worker(at):
        job = carray(at, (1,))[0]
        run, row, side, period = job.run, job.row, job.side, job.period
        x = inputs_of(job, dtype, residual)
        out = carray(pointer(job.out), (job.T * job.out_step,), spikes)
        room, total = np.empty((2, job.rows * run), np.float32), np.empty(period, np.float32)
        membranes = uncounted(room)
        of_u, of_squares = np.zeros(period, np.float32), np.zeros(period, np.float32)
        first_u, last_u = floats(job.before, job.step), floats(job.after, job.step)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first, left, rows, n = extent(job, block)
                room[1] = ZERO
                for t in range(job.T):
                    now, before = membranes[t % 2], membranes[(t + 1) % 2]
                    for group in range(0, rows, side):
                        at_o = t * job.out_step + (first + group) // side * (row // side) + left // side
                        for at_n in range(0, n, period):
                            m = min(period, n - at_n)
                            total[:] = ZERO
                            for r in range(group, group + side):
                                here = (first + r) * row + left + at_n
                                at_u, at = r * run + at_n, t * job.step + here
                                u, rest = now[at_u : at_u + m], before[at_u : at_u + m]
                                if job.before and t == 0:
                                    rest = first_u[here : here + m]
                                if job.after and t == job.T - 1:
                                    u = last_u[here : here + m]
                                advance(remains, job, x, u, rest, t, here, m)
                                if job.moments:
                                    add_squares(of_u, of_squares, u, m)
                                if side > 1:
                                    count(total, u, job.v_th, m)
                                else:
                                    fire(out[at : at + m], u, job.v_th, m)
                            if side > 1:
                                into = out[at_o + at_n // side : at_o + (at_n + m) // side]
                                average(into, total, job.area, side, job.channels, m // side // job.channels)
            if job.moments:
                fold_moments(job, chunk, of_u, of_squares, period)

    return worker


@loop
def observe_block(job, x, shape, membrane, width, chunk, block):
    """Add the statistics of a block's neurons."""
    first, left, rows, n = extent(job, block)
    for r in range(rows):
        for at_n in range(0, n, job.period):
            here, at_u = (first + r) * job.row + left + at_n, r * job.run + at_n
            watching.observe(job, x, shape, membrane, width, chunk, (here, at_u, min(job.period, n - at_n)))


@loop
def fold_gradients(job, chunk, total, weighted, for_beta, for_threshold):
    """Fold the sums of a chunk: of du, of du (z - mean), and of the gradients of beta and of the threshold."""
    if job.moments:
        fold_moments(job, chunk, total, weighted, job.period)
    if job.d_beta:
        fold(job.d_beta + 8 * chunk * job.channels, for_beta, job.channels, job.period)
    if job.d_threshold:
        fold(job.d_threshold + 8 * chunk * job.channels, for_threshold, job.channels, job.period)


def backward(dtype: type, shape: Any, reset: str, detach: bool, observes: bool = False) -> Worker:
    """A worker for the backward pass: gradients of the operands whose addresses are set.

    ``moments`` receives sums of du and du (z - mean) per chunk and channel. With ``slope``, d_z includes the gradient through the batch
    statistics. The membrane potentials of a block are recomputed into cached scratch memory before anything is written, so d_z may
    be the memory of z.

    A worker that observes adds statistics of the neurons to ``sums``, (chunks, T, SUMS) float64: always ``spikes`` and ``inside``;
    ``du`` only with ``grad``; the others only with ``histogram``, (chunks, PLACES) int64, and then it also sets ``marks``, uint8 per
    neuron and sample. Without ``grad`` it computes no gradients.
    """
    remains, gradient, detached, of_threshold = RESETS[reset]
    gradient = detached if detach else gradient

    def worker(at):
        job = carray(at, (1,))[0]
        run, row, side, period, T, v_th = job.run, job.row, job.side, job.period, job.T, job.v_th
        x = inputs_of(job, dtype, dtype)
        grad = carray(pointer(job.grad), (T * job.out_step,), dtype)
        d_z = carray(pointer(job.d_z), (T * job.step,), dtype)
        d_residual = carray(pointer(job.d_residual), (T * job.step,), dtype)
        mean, slope, offset = floats(job.mean, period), floats(job.slope, period), floats(job.offset, period)
        widths = job.width_step * (T - 1) + period
        width = Width(floats(job.half, widths), floats(job.inverse, widths))
        room, rest = np.empty((T + 1, job.rows * run), np.float32), np.zeros(period, np.float32)
        membrane = uncounted(room)
        carried, g, through = membrane[T], np.empty(period, np.float32), np.empty(period, np.float32)
        total, weighted = np.zeros(period, np.float32), np.zeros(period, np.float32)
        for_beta, for_threshold = np.zeros(period, np.float32), np.zeros(period, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first, left, rows, n = extent(job, block)
                recompute(remains, job, x, block, membrane, rest)
                if observes:
                    observe_block(job, x, shape, membrane, width, chunk, block)
                    if not job.grad:
                        continue
                room[T] = ZERO
                for t in range(T - 1, -1, -1):
                    width_t = width_at(width, t * job.width_step, period)
                    for group in range(0, rows, side):
                        for at_n in range(0, n, period):
                            m = min(period, n - at_n)
                            arrive(job, g, grad, t, first + group, left + at_n, m)
                            for r in range(group, group + side):
                                at_u, at = r * run + at_n, (first + r) * row + left + at_n
                                du, u = carried[at_u : at_u + m], membrane[t, at_u : at_u + m]
                                if job.d_threshold:
                                    add_later(of_threshold, for_threshold, du, u, x.beta, v_th, m)
                                step_back(shape, gradient, du, u, g, width_t, x.beta, v_th)
                                if job.d_threshold:
                                    subtract(for_threshold, du, m)
                                if observes:
                                    watching.add_nonzero(watching.sums_of(job, chunk, t), du, m)
                                here, at_z = t * job.step + at, t * job.z_step + at
                                if job.moments:
                                    add_moments(total, weighted, du, x.z[at_z : at_z + m], mean, m)
                                if job.d_beta and t > 0:
                                    add_beta(remains, for_beta, du, membrane[t - 1, at_u : at_u + m], v_th, m)
                                if job.d_z and job.slope:
                                    # Through scratch memory: a loop whose output may alias its input is not vectorised.
                                    source = x.z[at_z : at_z + m]
                                    through_statistics(through, du, source, x.scale, mean, slope, offset, m)
                                    write(d_z[here : here + m], through, m)
                                elif job.d_z:
                                    write_scaled(d_z[here : here + m], du, x.scale, m)
                                if job.d_residual:
                                    write(d_residual[here : here + m], du, m)
            fold_gradients(job, chunk, total, weighted, for_beta, for_threshold)

    return worker
