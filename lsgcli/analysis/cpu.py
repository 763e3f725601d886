"""The sums of ``lsgcli.analysis.sums`` computed by a compiled CPU kernel, many times faster."""

import numpy as np
import torch
from torch import Tensor

from lsgcli.analysis.dynamics import Passage, laid, reset_to_zero
from lsgcli.analysis.sums import Counted
from lsgcli.neurons.kernels.fused import fused
from lsgcli.neurons.step import over_time


def fits(passage: Passage) -> bool:
    """Whether the kernel supports these neurons."""
    x, p = passage.x, passage.p
    if not isinstance(x, Tensor) or x.dim() != 5 or x.numel() == 0 or passage.scale is None:
        return False
    if p.carry is not reset_to_zero or p.strict or p.gain != 1 or not fused.available(x.device):
        return False
    from lsgcli.neurons.kernels.cpu.function import STORAGE
    from lsgcli.neurons.kernels.cpu.layout import channel_axes
    from lsgcli.neurons.kernels.cpu.shapes import SCALARS

    along = channel_axes(p.decay, x) | channel_axes(p.width, x)
    divides = x.shape[3] % passage.side == 0 and x.shape[4] % passage.side == 0
    return x.dtype in STORAGE and p.surrogate in SCALARS and along <= {2} and divides


@torch.no_grad()
def count(passage: Passage, grad: Tensor | None, *, full: bool) -> Counted:
    """All sums of a layer.

    Args:
        passage: a passage for which :func:`fits` is true.
        grad: dL/do, or the gradient of averages over windows; None without a backward pass.
        full: compute all sums; otherwise only spikes and coverage.
    """
    from lsgcli.neurons.kernels.cpu import build
    from lsgcli.neurons.kernels.cpu.function import STORAGE, table, vector
    from lsgcli.neurons.kernels.cpu.job import Job
    from lsgcli.neurons.kernels.cpu.layout import Layout
    from lsgcli.neurons.kernels.cpu.watching import FIRED, PLACES, SILENT, SUMS

    x, p, v_th = passage.x, passage.p, passage.p.threshold
    assert isinstance(x, Tensor)
    assert passage.scale is not None
    assert passage.shift is not None
    layout, T = Layout((0, 1, 3, 4, 2), x.shape[2]), len(x)
    job = Job(layout.lay(x[:1] if x.stride(0) == 0 else x), T, layout, v_th, passage.side)
    step = x[0].numel()
    sums, histogram = np.zeros((job.chunks, T, len(SUMS))), np.zeros((job.chunks, PLACES), np.int64)
    marks = np.zeros(step if full else 0, np.uint8)
    job.point(
        residual=None if passage.residual is None else layout.lay(passage.residual.to(x.dtype)),
        grad=None if grad is None else layout.lay(grad.to(x.dtype)),
        sums=sums,
        histogram=histogram if full else None,
        marks=marks,
    )
    job.vectors(scale=vector(passage.scale), shift=vector(passage.shift), beta=vector(p.decay))
    job.widths(table(over_time(p.width, x.dim())))
    job.run(build.watch(STORAGE[x.dtype], p.surrogate))
    values = {name: torch.from_numpy(total) for name, total in zip(SUMS, sums.sum(0).T.copy(), strict=True)}
    values["n"] = torch.full((T,), float(step), dtype=torch.float64)
    if not full:
        return Counted(slice(None), {name: values[name] for name in ("n", "spikes", "inside")})
    for power, name in enumerate(("u", "u_squared", "u_cubed"), start=1):
        values[name] /= v_th**power
    values["product"][-1] = 0
    neurons = torch.from_numpy(marks).view(len(x[0]), *laid(x[:1]).shape[2:])
    every = (neurons & int(FIRED)).amax(0) > 0, (neurons & int(SILENT)).amax(0) == 0
    return Counted(slice(None), values, torch.from_numpy(histogram.sum(0)), *every)
