"""The fast backend for CPUs: tdBN, neurons and average pooling in one pass over channels-last memory.

It saves only its inputs for backward and recomputes the membrane potentials. It runs on torch's threads; results are bit-identical
for any number of threads. The kernels are in ``lsgcli.neurons.kernels.cpu``.
"""

import importlib
import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lsgcli.errors import ConfigError, install_hint
from lsgcli.neurons.kernels import Backend, NormParameters, average, is_tracing
from lsgcli.neurons.kernels.autograd import autograd
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register

log = logging.getLogger("lsg")
TYPES = (torch.float32, torch.bfloat16)


class Fused(Backend):
    """Kernels for CPUs, compiled by numba on first use and cached between runs.

    Supports float32 and bfloat16, decay and width per layer or along one axis (width also per timestep), and the surrogates in
    ``lsgcli.neurons.kernels.cpu.shapes``; all other cases run on ``reference``. A current whose steps are not contiguous, or whose
    decay varies along an axis other than the innermost, is copied first.
    """

    def check(self, device: torch.device) -> None:
        if device.type != "cpu":
            raise ConfigError(
                f"backend 'fused': found the device {device}, expected cpu",
                hint="Use --device cpu, or --backend auto, which selects the fastest backend for each device.",
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
            other = reference  # raises the error
        if other is not None:
            return other.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        from lsgcli.neurons.kernels.cpu import function
        from lsgcli.neurons.kernels.cpu.layout import Layout, channel_axes

        if not channel_axes(p.beta, z) | channel_axes(p.alpha, z) <= {2}:
            return reference.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        if residual is not None:
            residual = residual.to(z.dtype).expand_as(z)
        # If the window does not divide the image, spikes at its edge are not pooled.
        divides = z.shape[3] % pool == 0 and z.shape[4] % pool == 0
        setting = function.Setting(norm, p, Layout((0, 1, 3, 4, 2), z.shape[2]), pool if divides else 1)
        out = function.fused_neurons(z, setting, residual)
        return out if divides else average(out, pool)

    def _other(self, current: Tensor, p: LIFParameters) -> Backend | None:
        """The backend for cases that the kernels do not support, or None."""
        if is_tracing(current):
            return autograd
        self.check(current.device)
        from lsgcli.neurons.kernels.cpu.shapes import SCALARS

        known = current.dtype in TYPES and p.surrogate in SCALARS
        return None if known and current.numel() > 0 else reference


@cache
def _numba_problem() -> str:
    """Why numba cannot be used, or an empty string. Logs one warning if it is installed but broken."""
    if find_spec("numba") is None:
        return "no package numba"
    try:
        importlib.import_module("lsgcli.neurons.kernels.cpu.build")
    except ImportError as error:  # usually an incompatible NumPy version
        log.warning(
            "numba is installed but cannot be imported (%s); --backend auto falls back to the slower reference backend", error
        )
        return f"a numba that cannot be imported ({error})"
    return ""


fused = register("backend", "fused")(Fused())
