"""The backend for speed on CPUs: tdBN, neurons and average pooling in one pass over channels-last memory.

Beside its result, it keeps for the backward pass only what came in, and computes the membrane potentials anew. It runs on the
threads of torch, with the same bits for any number of them. The kernels are in ``lsgcli.neurons.kernels.cpu``.
"""

import importlib
import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lsgcli.errors import ConfigError
from lsgcli.extras import install_hint
from lsgcli.neurons.kernels import Backend, NormParameters, average, is_tracing
from lsgcli.neurons.kernels.autograd import autograd
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register

log = logging.getLogger("lsg")
TYPES = (torch.float32, torch.bfloat16)


class Fused(Backend):
    """Kernels for CPUs, compiled by numba when first used and kept between runs.

    For float32 and bfloat16, one decay and width per layer or along one axis (a width also per timestep), and every surrogate of
    ``lsgcli.neurons.kernels.cpu.shapes``; anything else runs on the reference, with the same result. A current that does not lie
    step after step in memory, or whose decay varies along an axis that is not innermost, is copied first.
    """

    def check(self, device: torch.device) -> None:
        if device.type != "cpu":
            raise ConfigError(
                f"backend 'fused': found the device {device}, expected cpu",
                hint="Use --device cpu, or --backend auto, which takes the fastest backend of each device.",
            )
        if problem := _numba_problem():
            raise ConfigError(
                f"backend 'fused': found {problem}, expected numba",
                hint=f"{install_hint()}; or use --backend auto.",
            )

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        if other := self._other(current, p):
            return other(current, p, overwrite)
        from lsgcli.neurons.kernels.cpu import function
        from lsgcli.neurons.kernels.cpu.layout import channel_axes, layout

        order = layout(current, channel_axes(p.beta, current) | channel_axes(p.alpha, current))
        if order is None:
            return reference(current, p, overwrite)
        return function.fused_neurons(current, function.Setting(None, p, order, 1))

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        other = self._other(z, p)
        if other is None and (z.dim() != 5 or (norm is not None and norm.training and z[:, :, 0].numel() == 1)):
            other = reference  # which has words for what is wrong with that
        if other is not None:
            return other.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        from lsgcli.neurons.kernels.cpu import function
        from lsgcli.neurons.kernels.cpu.layout import Layout, channel_axes

        if not channel_axes(p.beta, z) | channel_axes(p.alpha, z) <= {2}:
            return reference.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        if residual is not None:
            residual = residual.to(z.dtype).expand_as(z)
        # Where the window does not divide the image, neurons at its edge have spikes but no place in the average.
        divides = z.shape[3] % pool == 0 and z.shape[4] % pool == 0
        setting = function.Setting(norm, p, Layout((0, 1, 3, 4, 2), z.shape[2]), pool if divides else 1)
        out = function.fused_neurons(z, setting, residual)
        return out if divides else average(out, pool)

    def _other(self, current: Tensor, p: LIFParameters) -> Backend | None:
        """The backend that runs what the kernels do not."""
        if is_tracing(current):
            return autograd
        self.check(current.device)
        from lsgcli.neurons.kernels.cpu.shapes import SCALARS

        known = current.dtype in TYPES and p.surrogate in SCALARS
        return None if known and current.numel() > 0 else reference


@cache
def _numba_problem() -> str:
    """Why there can be no kernels; an empty text where there can be. One that is installed but broken is warned of, once."""
    if find_spec("numba") is None:
        return "no installed package numba"
    try:
        importlib.import_module("lsgcli.neurons.kernels.cpu.build")
    except ImportError as error:  # most often of another version of NumPy
        log.warning("numba is installed but cannot be used (%s); --backend auto goes on without it, more slowly", error)
        return f"a numba that cannot be imported ({error})"
    return ""


fused = register("backend", "fused")(Fused())
