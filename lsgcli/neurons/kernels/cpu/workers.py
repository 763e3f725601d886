"""What one thread does: take the next chunk of blocks, run every timestep of each block while it lies in cache, until none is left.

Memory is (T, rows of pixels, C), channels innermost. A *block* is a run of pixels of one image row, or of as many rows one below
the other as the pooling window is high; a *chunk* is a fixed number of blocks, with sums of its own. Which thread takes
which chunk therefore changes nothing in any result. A worker is a C function of one pointer, to a :data:`JOB`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

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
    integrate,
    integrate_two,
    spread,
    step_back,
    widen,
    write,
    write_scaled,
    write_through_statistics,
)
from lsgcli.neurons.kernels.cpu.words import doubles, fetch_and_add, floats, pointer

SIGNATURE = types.void(types.CPointer(from_dtype(JOB)))
ZERO, ONE = np.float32(0), np.float32(1)
Worker = Callable[[Any], None]


def statistics(words: type) -> Worker:
    """Sums of z - origin and of its square per chunk and channel, as float64."""

    def worker(at):  # type: ignore[no-untyped-def]
        job = carray(at, (1,))[0]
        z = carray(pointer(job.z), (job.size,), words)
        origin = floats(job.mean, job.run)
        total, squares = np.zeros(job.run, np.float32), np.zeros(job.run, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                first = block * job.run
                n = min(job.run, job.size - first)
                add_deviations(total, squares, z[first : first + n], origin, n)
            sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
            fold(sums[: job.channels], total, job.channels, job.run)
            fold(sums[job.channels :], squares, job.channels, job.run)

    return worker


def forward(words: type) -> Worker:
    """Spikes, or their averages over the pooling window; ``moments`` being the sums of u and its square per chunk and channel."""

    def worker(at):  # type: ignore[no-untyped-def]
        job = carray(at, (1,))[0]
        run, side = job.run, job.side
        z = carray(pointer(job.z), (job.size,), words)
        addend = carray(pointer(job.addend), (job.T * job.step,), words)
        out = carray(pointer(job.out), (job.T * job.out_step,), words)
        scale, shift, beta = floats(job.scale, run), floats(job.shift, run), floats(job.beta, run)
        here, there, total = np.empty(run * side, np.float32), np.empty(run * side, np.float32), np.empty(run, np.float32)
        of_u, of_squares = np.zeros(run, np.float32), np.zeros(run, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                group, piece = block // job.pieces, block % job.pieces
                start = group * side * job.row + piece * run
                n = min(run, job.row - piece * run)
                here[:] = ZERO
                for t in range(job.T):
                    u, before = (there, here) if t % 2 == 0 else (here, there)
                    total[:] = ZERO
                    for p in range(side):
                        at_z = t * job.z_step + start + p * job.row
                        u_p, before_p = u[p * run : (p + 1) * run], before[p * run : (p + 1) * run]
                        if job.addend:
                            at_a = t * job.step + start + p * job.row
                            more = addend[at_a : at_a + n]
                            integrate_two(u_p, before_p, z[at_z : at_z + n], more, scale, shift, beta, job.v_th, n)
                        else:
                            integrate(u_p, before_p, z[at_z : at_z + n], scale, shift, beta, job.v_th, n)
                        if job.moments:
                            add_squares(of_u, of_squares, u_p, n)
                        if side > 1:
                            count(total, u_p, job.v_th, n)
                    if side > 1:
                        at_o = t * job.out_step + group * (job.row // side) + piece * (run // side)
                        average(out[at_o : at_o + n // side], total, job.area, side, job.channels, n // side // job.channels)
                    else:
                        at_o = t * job.step + start
                        fire(out[at_o : at_o + n], u, job.v_th, n)
            if job.moments:
                sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
                fold(sums[: job.channels], of_u, job.channels, run)
                fold(sums[job.channels :], of_squares, job.channels, run)

    return worker


def backward(words: type, shape: Any) -> Worker:
    """Gradients of whatever the job has an address for, ``moments`` being the sums of du and du (z - mean) per chunk and channel.

    Where there is a ``slope``, d_z includes what the batch's own statistics pass back. The membrane potentials of a block are computed anew, into scratch memory that stays in cache.
    """

    def worker(at):  # type: ignore[no-untyped-def]
        job = carray(at, (1,))[0]
        run, side, T, v_th = job.run, job.side, job.T, job.v_th
        z = carray(pointer(job.z), (job.size,), words)
        addend = carray(pointer(job.addend), (T * job.step,), words)
        grad = carray(pointer(job.grad), (T * job.out_step,), words)
        d_z, d_addend = (
            carray(pointer(job.d_z), (T * job.step,), words),
            carray(pointer(job.d_addend), (T * job.step,), words),
        )
        scale, shift, beta = floats(job.scale, run), floats(job.shift, run), floats(job.beta, run)
        mean, slope, offset = floats(job.mean, run), floats(job.slope, run), floats(job.offset, run)
        widths = job.width_step * (T - 1) + run
        halves, inverses = floats(job.half, widths), floats(job.inverse, widths)
        membrane, rest = np.empty((T, run * side), np.float32), np.zeros(run, np.float32)
        carried, g = np.empty((side, run), np.float32), np.empty(run, np.float32)
        total, weighted, for_beta = np.zeros(run, np.float32), np.zeros(run, np.float32), np.zeros(run, np.float32)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for block in range(chunk * job.per_chunk, min((chunk + 1) * job.per_chunk, job.blocks)):
                group, piece = block // job.pieces, block % job.pieces
                start = group * side * job.row + piece * run
                n = min(run, job.row - piece * run)
                for p in range(side):
                    before = rest
                    for t in range(T):
                        at_z = t * job.z_step + start + p * job.row
                        u = membrane[t, p * run : (p + 1) * run]
                        if job.addend:
                            at_a = t * job.step + start + p * job.row
                            more = addend[at_a : at_a + n]
                            integrate_two(u, before, z[at_z : at_z + n], more, scale, shift, beta, v_th, n)
                        else:
                            integrate(u, before, z[at_z : at_z + n], scale, shift, beta, v_th, n)
                        before = u
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
                        du, u = carried[p], membrane[t, p * run : (p + 1) * run]
                        step_back(shape, du, u, g, half, inverse, beta, v_th, n)
                        here, at_z = t * job.step + start + p * job.row, t * job.z_step + start + p * job.row
                        if job.moments:
                            add_moments(total, weighted, du, z[at_z : at_z + n], mean, n)
                        if job.d_beta and t > 0:
                            add_beta(for_beta, du, membrane[t - 1, p * run : (p + 1) * run], v_th, n)
                        if job.d_z and job.slope:
                            target, source = d_z[here : here + n], z[at_z : at_z + n]
                            write_through_statistics(target, du, source, scale, mean, slope, offset, n)
                        elif job.d_z:
                            write_scaled(d_z[here : here + n], du, scale, n)
                        if job.d_addend:
                            write(d_addend[here : here + n], du, n)
            if job.moments:
                sums = doubles(job.moments + 16 * chunk * job.channels, 2 * job.channels)
                fold(sums[: job.channels], total, job.channels, run)
                fold(sums[job.channels :], weighted, job.channels, run)
            if job.d_beta:
                fold(doubles(job.d_beta + 8 * chunk * job.channels, job.channels), for_beta, job.channels, run)

    return worker
