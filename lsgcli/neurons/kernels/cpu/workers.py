"""The kernels. Each thread repeatedly takes a chunk of blocks and runs all timesteps of each block while it is in cache.

Memory is (T, rows, C), channels innermost; a row is an image row if spikes are pooled, otherwise the whole step. A *block* is a
piece of a row, or several rows, a multiple of the height of the pooling window; loops process a *period* at a time. A *chunk* is a
fixed number of blocks with its own sums, so results do not depend on which thread runs it. A worker is a C function with one argument,
a pointer to a :data:`JOB`.

Legend: ``here`` is the index of an element in a step; m elements from there, at most a period, are processed.
"""

from collections import namedtuple
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
# Memory of a thread, passed at no cost. ``u`` and ``membrane`` are the potentials of a block at two steps and at all; others are of a period.
Forward = namedtuple("Forward", "x out first_u last_u u pooled of_u of_squares")
Backward = namedtuple(
    "Backward", "x grad d_z d_residual mean slope offset width membrane carried g through total weighted for_beta for_threshold"
)


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
def blocks_of(job, chunk):
    """The blocks of a chunk."""
    return range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks))


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
def recompute(remains, job, x, block, membrane):
    """Membrane potentials of a block at all steps, (T, rows x run); the last row of ``membrane``, which precedes the first, is zero."""
    first, left, rows, n = extent(job, block)
    for t in range(job.T):
        for r in range(rows):
            for at_n in range(0, n, job.period):
                m, at_u = min(job.period, n - at_n), r * job.run + at_n
                u, before = membrane[t, at_u : at_u + m], membrane[t - 1, at_u : at_u + m]
                advance(remains, job, x, u, before, t, (first + r) * job.row + left + at_n, m)


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
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            for at_n in range(chunk * job.per_chunk * run, min((chunk + 1) * job.per_chunk * run, job.size), run):
                n = min(run, job.size - at_n)
                add_deviations(total, squares, z[at_n : at_n + n], origin, n)
            fold_moments(job, chunk, total, squares, run)
            chunk = fetch_and_add(job.counter)

    return worker


@loop
def fire_block(remains, job, p, block, t):
    """One timestep of a block."""
    first, left, rows, n = extent(job, block)
    for group in range(0, rows, job.side):
        for at_n in range(0, n, job.period):
            m = min(job.period, n - at_n)
            if job.side > 1:
                fire_pooled(remains, job, p, t, first, group, left, at_n, m)
            else:
                here = (first + group) * job.row + left + at_n
                u = potentials(remains, job, p, t, here, group * job.run + at_n, m)
                at = t * job.step + here
                fire(p.out[at : at + m], u, job.v_th, m)


@loop
def fire_pooled(remains, job, p, t, first, group, left, at_n, m):
    """Averages over pooling windows of ``side`` rows of a block from ``group``, of m elements of a row from ``at_n``."""
    p.pooled[:] = ZERO
    for r in range(group, group + job.side):
        u = potentials(remains, job, p, t, (first + r) * job.row + left + at_n, r * job.run + at_n, m)
        count(p.pooled, u, job.v_th, m)
    at = t * job.out_step + (first + group) // job.side * (job.row // job.side) + left // job.side + at_n // job.side
    average(p.out[at : at + m // job.side], p.pooled, job.area, job.side, job.channels, m // job.side // job.channels)


@loop
def potentials(remains, job, p, t, here, at_u, m):
    """u of m neurons, from ``at_u`` in the block."""
    u, before = p.u[t % 2, at_u : at_u + m], p.u[(t + 1) % 2, at_u : at_u + m]
    if job.before and t == 0:
        before = p.first_u[here : here + m]
    if job.after and t == job.T - 1:
        u = p.last_u[here : here + m]
    advance(remains, job, p.x, u, before, t, here, m)
    if job.moments:
        add_squares(p.of_u, p.of_squares, u, m)
    return u


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
        period = job.period
        room = np.empty((5, job.rows * job.run), np.float32)
        room[3:, :period] = ZERO
        rows = uncounted(room)
        p = Forward(
            inputs_of(job, dtype, residual),
            carray(pointer(job.out), (job.T * job.out_step,), spikes),
            floats(job.before, job.step),
            floats(job.after, job.step),
            rows,
            rows[2, :period],
            rows[3, :period],
            rows[4, :period],
        )
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            for block in blocks_of(job, chunk):
                room[1] = ZERO
                for t in range(job.T):
                    fire_block(remains, job, p, block, t)
            if job.moments:
                fold_moments(job, chunk, p.of_u, p.of_squares, period)
            chunk = fetch_and_add(job.counter)

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
def back_through_block(functions, job, p, chunk, block, t):
    """The backward pass of a block from step t + 1 to t; du of t + 1 is in ``carried``."""
    first, left, rows, n = extent(job, block)
    for group in range(0, rows, job.side):
        for at_n in range(0, n, job.period):
            m = min(job.period, n - at_n)
            arrive(job, p.g, p.grad, t, first + group, left + at_n, m)
            for r in range(group, group + job.side):
                back_through(functions, job, p, chunk, t, (first + r) * job.row + left + at_n, r * job.run + at_n, m)


@loop
def back_through(functions, job, p, chunk, t, here, at_u, m):
    """The backward pass of m neurons, whose dL/do is in ``g``; ``at_u`` is their place in the block."""
    shape, remains, gradient, of_threshold = functions
    du, u = p.carried[at_u : at_u + m], p.membrane[t, at_u : at_u + m]
    if job.d_threshold:
        add_later(of_threshold, p.for_threshold, du, u, p.x.beta, job.v_th, m)
    step_back(shape, gradient, du, u, p.g, width_at(p.width, t * job.width_step, job.period), p.x.beta, job.v_th)
    if job.d_threshold:
        subtract(p.for_threshold, du, m)
    if job.sums:
        watching.add_nonzero(watching.sums_of(job, chunk, t), du, m)
    at, at_z = t * job.step + here, t * job.z_step + here
    z = p.x.z[at_z : at_z + m]
    if job.moments:
        add_moments(p.total, p.weighted, du, z, p.mean, m)
    if job.d_beta and t > 0:
        add_beta(remains, p.for_beta, du, p.membrane[t - 1, at_u : at_u + m], job.v_th, m)
    if job.d_z and job.slope:
        # Through scratch memory: a loop whose output may alias its input is not vectorised.
        through_statistics(p.through, du, z, p.x.scale, p.mean, p.slope, p.offset, m)
        write(p.d_z[at : at + m], p.through, m)
    elif job.d_z:
        write_scaled(p.d_z[at : at + m], du, p.x.scale, m)
    if job.d_residual:
        write(p.d_residual[at : at + m], du, m)


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
        period, T = job.period, job.T
        widths = job.width_step * (T - 1) + period
        room = np.empty((T + 7, job.rows * job.run), np.float32)
        room[T + 3 :, :period] = ZERO
        rows = uncounted(room)
        p = Backward(
            inputs_of(job, dtype, dtype),
            carray(pointer(job.grad), (T * job.out_step,), dtype),
            carray(pointer(job.d_z), (T * job.step,), dtype),
            carray(pointer(job.d_residual), (T * job.step,), dtype),
            floats(job.mean, period),
            floats(job.slope, period),
            floats(job.offset, period),
            Width(floats(job.half, widths), floats(job.inverse, widths)),
            rows[: T + 1],
            rows[T],
            rows[T + 1, :period],
            rows[T + 2, :period],
            rows[T + 3, :period],
            rows[T + 4, :period],
            rows[T + 5, :period],
            rows[T + 6, :period],
        )
        functions = shape, remains, gradient, of_threshold
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            for block in blocks_of(job, chunk):
                room[T] = ZERO
                recompute(remains, job, p.x, block, p.membrane)
                if observes:
                    observe_block(job, p.x, shape, p.membrane, p.width, chunk, block)
                if job.grad:
                    for t in range(T - 1, -1, -1):
                        back_through_block(functions, job, p, chunk, block, t)
            fold_gradients(job, chunk, p.total, p.weighted, p.for_beta, p.for_threshold)
            chunk = fetch_and_add(job.counter)

    return worker
