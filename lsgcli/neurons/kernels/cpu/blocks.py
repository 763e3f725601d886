"""Functions shared by the workers: the extent of a block of neurons, its membrane potentials, and its incoming gradient.

Legend: ``here`` is the index of an element in a step; m elements from there, at most a period, are processed.
"""

from lsgcli.neurons.kernels.cpu.intrinsics import loop
from lsgcli.neurons.kernels.cpu.stages import integrate, integrate_two, spread, widen

# mypy: disable-error-code="no-untyped-def"


@loop
def extent(job, block):
    """First row of a block, offset in that row, number of rows, and elements per row."""
    first, left = block // job.pieces * job.rows, block % job.pieces * job.run
    return first, left, min(job.rows, job.step // job.row - first), min(job.run, job.row - left)


@loop
def advance(job, u, before, z, residual, scale, shift, beta, t, here, m):
    """u at step t, from the potential ``before`` at step t - 1."""
    at_z, at_a = t * job.z_step + here, t * job.step + here
    if job.residual:
        integrate_two(u, before, z[at_z : at_z + m], residual[at_a : at_a + m], scale, shift, beta, job.v_th, m)
    else:
        integrate(u, before, z[at_z : at_z + m], scale, shift, beta, job.v_th, m)


@loop
def recompute(job, block, membrane, rest, z, residual, scale, shift, beta):
    """Membrane potentials of a block at all steps, (T, rows x run); ``rest`` is a period of zeros."""
    first, left, rows, n = extent(job, block)
    for t in range(job.T):
        for r in range(rows):
            for at_n in range(0, n, job.period):
                m, at_u = min(job.period, n - at_n), r * job.run + at_n
                before = membrane[t - 1, at_u : at_u + m] if t > 0 else rest[:m]
                here = (first + r) * job.row + left + at_n
                advance(job, membrane[t, at_u : at_u + m], before, z, residual, scale, shift, beta, t, here, m)


@loop
def arrive(job, g, grad, t, row, at, m):
    """g = dL/do of m elements of an image row, or of each row of the pooling window that begins there, from element ``at``."""
    at_g = t * job.out_step + row // job.side * (job.row // job.side) + at // job.side
    source = grad[at_g : at_g + m // job.side]
    if job.side > 1:
        spread(g, source, job.area, job.side, job.channels, m // job.side // job.channels)
    else:
        widen(g, source, m)
