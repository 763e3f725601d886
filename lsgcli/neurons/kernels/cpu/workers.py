"""The kernels. Each thread repeatedly takes a chunk of blocks and runs all timesteps of each block while it is in cache.

Memory is (T, rows, C), channels innermost; a row is an image row if spikes are pooled, otherwise the whole step. A *block* is a
piece of a row, or several rows, a multiple of the height of the pooling window; loops process a *period* at a time. A *chunk* is a
fixed number of blocks with its own sums, so results do not depend on which thread runs it. A worker is a C function with one argument,
a pointer to a :data:`JOB`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

from lsgcli.neurons.kernels.cpu.blocks import advance, arrive, extent, recompute
from lsgcli.neurons.kernels.cpu.intrinsics import doubles, fetch_and_add, floats, pointer
from lsgcli.neurons.kernels.cpu.job import JOB
from lsgcli.neurons.kernels.cpu.stages import (
    add_beta,
    add_deviations,
    add_moments,
    add_squares,
    average,
    count,
    fire,
    fold,
    step_back,
    through_statistics,
    write,
    write_scaled,
)

SIGNATURE = types.void(types.CPointer(from_dtype(JOB)))
ZERO, ONE = np.float32(0), np.float32(1)
Worker = Callable[[Any], None]


def statistics(dtype: type) -> Worker:
    """A worker for the sums of z - origin and of its square, per chunk and channel, in float64."""

    def worker(at):  # type: ignore[no-untyped-def]
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
            sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
            fold(sums[: job.channels], total, job.channels, run)
            fold(sums[job.channels :], squares, job.channels, run)

    return worker


def forward(dtype: type) -> Worker:
    """A worker for the forward pass: spikes, average-pooled if set; ``moments`` receives sums of u and u^2 per chunk and channel."""

    def worker(at):  # type: ignore[no-untyped-def]
        job = carray(at, (1,))[0]
        run, row, side, period = job.run, job.row, job.side, job.period
        z = carray(pointer(job.z), (job.size,), dtype)
        residual = carray(pointer(job.residual), (job.T * job.step,), dtype)
        out = carray(pointer(job.out), (job.T * job.out_step,), dtype)
        scale, shift, beta = floats(job.scale, period), floats(job.shift, period), floats(job.beta, period)
        membranes, total = np.empty((2, job.rows * run), np.float32), np.empty(period, np.float32)
        of_u, of_squares = np.zeros(period, np.float32), np.zeros(period, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first, left, rows, n = extent(job, block)
                membranes[1] = ZERO
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
                                u = now[at_u : at_u + m]
                                advance(job, u, before[at_u : at_u + m], z, residual, scale, shift, beta, t, here, m)
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
                sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
                fold(sums[: job.channels], of_u, job.channels, period)
                fold(sums[job.channels :], of_squares, job.channels, period)

    return worker


def backward(dtype: type, shape: Any) -> Worker:
    """A worker for the backward pass: gradients of the operands whose addresses are set.

    ``moments`` receives sums of du and du (z - mean) per chunk and channel. With ``slope``, d_z includes the gradient through the batch
    statistics. The membrane potentials of a block are recomputed into cached scratch memory before anything is written, so d_z may
    be the memory of z.
    """

    def worker(at):  # type: ignore[no-untyped-def]
        job = carray(at, (1,))[0]
        run, row, side, period, T, v_th = job.run, job.row, job.side, job.period, job.T, job.v_th
        z = carray(pointer(job.z), (job.size,), dtype)
        residual = carray(pointer(job.residual), (T * job.step,), dtype)
        grad = carray(pointer(job.grad), (T * job.out_step,), dtype)
        d_z, d_residual = (
            carray(pointer(job.d_z), (T * job.step,), dtype),
            carray(pointer(job.d_residual), (T * job.step,), dtype),
        )
        scale, shift, beta = floats(job.scale, period), floats(job.shift, period), floats(job.beta, period)
        mean, slope, offset = floats(job.mean, period), floats(job.slope, period), floats(job.offset, period)
        widths = job.width_step * (T - 1) + period
        halves, inverses = floats(job.half, widths), floats(job.inverse, widths)
        membrane, rest = np.empty((T, job.rows * run), np.float32), np.zeros(period, np.float32)
        carried, g, through = np.empty(job.rows * run, np.float32), np.empty(period, np.float32), np.empty(period, np.float32)
        total, weighted, for_beta = np.zeros(period, np.float32), np.zeros(period, np.float32), np.zeros(period, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first, left, rows, n = extent(job, block)
                recompute(job, block, membrane, rest, z, residual, scale, shift, beta)
                carried[:] = ZERO
                for t in range(T - 1, -1, -1):
                    at_w = t * job.width_step
                    half, inverse = halves[at_w : at_w + period], inverses[at_w : at_w + period]
                    for group in range(0, rows, side):
                        for at_n in range(0, n, period):
                            m = min(period, n - at_n)
                            arrive(job, g, grad, t, first + group, left + at_n, m)
                            for r in range(group, group + side):
                                at_u, at = r * run + at_n, (first + r) * row + left + at_n
                                du, u = carried[at_u : at_u + m], membrane[t, at_u : at_u + m]
                                step_back(shape, du, u, g, half, inverse, beta, v_th, m)
                                here, at_z = t * job.step + at, t * job.z_step + at
                                if job.moments:
                                    add_moments(total, weighted, du, z[at_z : at_z + m], mean, m)
                                if job.d_beta and t > 0:
                                    add_beta(for_beta, du, membrane[t - 1, at_u : at_u + m], v_th, m)
                                if job.d_z and job.slope:
                                    # Through scratch memory: a loop whose output may alias its input is not vectorised.
                                    source = z[at_z : at_z + m]
                                    through_statistics(through, du, source, scale, mean, slope, offset, m)
                                    write(d_z[here : here + m], through, m)
                                elif job.d_z:
                                    write_scaled(d_z[here : here + m], du, scale, m)
                                if job.d_residual:
                                    write(d_residual[here : here + m], du, m)
            if job.moments:
                sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
                fold(sums[: job.channels], total, job.channels, period)
                fold(sums[job.channels :], weighted, job.channels, period)
            if job.d_beta:
                fold(doubles(job.d_beta + 8 * chunk * job.channels, job.channels), for_beta, job.channels, period)

    return worker
