"""The forward kernel for single timesteps of a layer: everything that is equal in all calls is prepared once."""

from array import array

import numpy as np
import torch
from torch import Tensor

from lsgcli.neurons.kernels.cpu import build, workers
from lsgcli.neurons.kernels.cpu.job import OPERANDS, SPIKES, STORAGE, Job, Layout


class Timestep:
    """One timestep of neurons, for currents of one shape and type.

    Args:
        z: an example of the current, (1, B, C, ...).
        residual: an example of the second current, of the same shape; None without one.
        layout: of z.
        beta: decay, () or (C,).
        v_th: threshold.
        reset: name of the reset.
        pool: size of the pooling window, which divides the image.
        as_bytes: whether spikes are bytes; pooling then returns sums.
    """

    def __init__(
        self,
        z: Tensor,
        residual: Tensor | None,
        layout: Layout,
        *,
        beta: Tensor,
        v_th: float,
        reset: str,
        pool: int,
        as_bytes: bool,
    ):
        laid, self.dtype = layout.lay(z), torch.uint8 if as_bytes else z.dtype
        out = layout.back(layout.like(z.shape, z, pool=pool))
        self.layout, self.strides = layout, layout.back(laid).stride()
        self.u, self.out = (z.shape[1:], self.strides[1:]), (out.shape, out.stride())
        self.job = Job(laid, 1, layout, v_th, pool, as_bytes)
        self.job.vectors(scale=np.ones(1), shift=np.zeros(1), beta=beta.double().reshape(-1).numpy())
        types = STORAGE[z.dtype], SPIKES[z.dtype if residual is None else residual.dtype], SPIKES[self.dtype]
        self.worker = build.address(workers.forward, *types, reset)

    def __call__(self, z: Tensor, residual: Tensor | None, u: Tensor | None) -> tuple[Tensor, Tensor]:
        """Spikes, average-pooled if set, and u[t] (B, C, ...), for z and residual (1, B, C, ...) and u[t-1] (B, C, ...); None is 0."""
        out = torch.empty_strided(*self.out, dtype=self.dtype)
        after = torch.empty_strided(*self.u, dtype=torch.float32)
        operands = *(None if x is None else self._laid(x) for x in (z, residual, None if u is None else u[None])), out, after
        self.job.fields[OPERANDS] = array("q", [0 if x is None else x.data_ptr() for x in operands])
        self.job.run(self.worker)
        return out, after

    def _laid(self, x: Tensor) -> Tensor:
        """x in the memory order of the kernel."""
        return x if x.stride() == self.strides else self.layout.lay(x)
