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
from lsgcli.neurons.kernels.base import Backend, Bytes, NormParameters, average, is_tracing
from lsgcli.neurons.kernels.cpu.job import STORAGE, image_layout, sequence_layout
from lsgcli.neurons.kernels.reference import autograd, reference
from lsgcli.neurons.step import LIFParameters
from lsgcli.neurons.surrogates import FORMS, Surrogate
from lsgcli.registry import register

log = logging.getLogger("lsg")


class Fused(Backend):
    """Kernels for CPUs, compiled by numba on first use and cached between runs.

    Supports float32 and bfloat16, decay and width per layer or along one axis (width also per timestep), and surrogates with
    an expression for numba (``lsgcli.neurons.surrogates``); all other cases run on ``reference``. A current whose steps are not contiguous, or whose
    decay varies along an axis other than the innermost, is copied first.

    Args:
        as_bytes: whether spikes are bytes, as with :class:`~lsgcli.neurons.kernels.base.Bytes`.
    """

    types = tuple(STORAGE)

    def __init__(self, as_bytes: bool = False):
        self.as_bytes = as_bytes
        self.otherwise: Backend = Bytes(reference) if as_bytes else reference

    def check(self, device: torch.device) -> None:
        if device.type != "cpu":
            raise ConfigError(
                f"backend: found data on the device {device}, expected cpu for fused",
                hint="Use --device cpu, or --backend auto, which selects the fastest backend for each device.",
            )
        if problem := _numba_problem():
            raise ConfigError(
                f"backend: found fused with {problem}, expected numba",
                hint=f"{install_hint()}; or use --backend auto.",
            )

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        if is_tracing(current):
            return autograd(current, p, overwrite)
        self.check(current.device)
        layout = sequence_layout(current, p.beta, p.alpha) if self.supports(current, p.surrogate, p.reset) else None
        if layout is None:
            return self.otherwise(current, p, overwrite)
        from lsgcli.neurons.kernels.cpu.function import Setting, fused_neurons

        return fused_neurons(current, Setting(None, p, layout, 1, self.as_bytes))

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        if is_tracing(z):
            return autograd.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        self.check(z.device)
        layout = image_layout(z, p.beta, p.alpha) if z.dim() == 5 and self.supports(z, p.surrogate, p.reset) else None
        # The reference raises the error for one value per channel.
        if layout is None or (norm is not None and norm.training and z.numel() == z.shape[2]):
            return self.otherwise.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        from lsgcli.neurons.kernels.cpu.function import Setting, fused_neurons

        if residual is not None:
            residual = (residual if self.as_bytes and residual.dtype == torch.uint8 else residual.to(z.dtype)).expand_as(z)
        # If the window does not divide the image, spikes at its edge are not pooled.
        divides = z.shape[3] % pool == 0 and z.shape[4] % pool == 0
        out = fused_neurons(z, Setting(norm, p, layout, pool if divides else 1, self.as_bytes), residual)
        return out if divides else average(out, pool)

    def supports(self, x: Tensor, surrogate: Surrogate, reset: str) -> bool:
        """Whether the kernels support the type of x, the surrogate and the reset."""
        from lsgcli.neurons.kernels.cpu.stages import RESETS

        return x.dtype in STORAGE and x.numel() > 0 and reset in RESETS and surrogate in FORMS and bool(FORMS[surrogate].numba)


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
