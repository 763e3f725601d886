"""``triton``: tdBN, neurons and pooling in fused kernels for CUDA devices.

A layer uses two kernels in the forward pass (moments of the input; then normalise, add, integrate, fire and average) and two in the
backward pass. The only activation-sized tensors saved are the convolution's output and the residual, if any; the membrane potential is
recomputed in the backward pass. The order of summation depends only on shapes, so results on one device are bit-identical between
runs. The host never waits for the device.

Tested: all kernels, forward and backward, in Triton's interpreter on a CPU, against ``reference``; and compilation to machine code for
six architectures (``docs/performance-details.md``). **Not run or timed on a GPU**. With ``TRITON_INTERPRET=1`` in the
environment, the backend runs on CPU tensors, slowly, for tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lsgcli.errors import ConfigError, install_hint
from lsgcli.neurons.kernels.base import Backend, NormParameters, is_tracing
from lsgcli.neurons.kernels.gpu import interpreted
from lsgcli.neurons.kernels.reference import autograd, reference
from lsgcli.neurons.step import LIFParameters, over_time
from lsgcli.registry import register
from lsgcli.system.device import nvidia_driver
from lsgcli.system.version import __version__

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LARGEST_POOL = 8  # the neurons of a window are lanes of one tile
OLDEST = (3, 3)  # first release of Triton that accepts a function as a constexpr argument
CAPABILITY = (8, 0)  # first compute capability with bfloat16


class Triton(Backend):
    """Fused kernels for CUDA devices; unsupported cases run as separate torch operations.

    Not supported: surrogates without an expression for Triton, pooling windows larger than 8 x 8, decays and widths that differ within a
    channel after tdBN, and empty tensors. A current whose steps are not contiguous is copied first.
    """

    types = TYPES

    def conditions(self, device: torch.device) -> str:
        import triton

        if interpreted():
            where = "Triton's interpreter"
        else:
            capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
            where = f"{torch.cuda.get_device_name(device)} of capability {capability} with driver {nvidia_driver()}"
        return f"{where}, torch {torch.__version__}, triton {triton.__version__}, lsg {__version__}"

    def check(self, device: torch.device) -> None:
        if not _installed():
            raise ConfigError(
                "backend: found no package triton",
                hint=f"{install_hint('triton')}; or use --backend auto. torch for CUDA on Linux includes it.",
            )
        if interpreted():
            return
        if device.type != "cuda":
            raise ConfigError(
                f"backend: found data on the device {device}, expected a CUDA device for triton",
                hint="Use --device cuda, or --backend auto, which selects the fastest backend for each device.",
            )
        _check_versions(device)

    @contextmanager
    def as_for_large_layers(self) -> Iterator[None]:
        from lsgcli.neurons.kernels.gpu import sequence

        parts, sequence.PARTS = sequence.PARTS, 2
        try:
            yield
        finally:
            sequence.PARTS = parts

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        if is_tracing(current):
            return autograd(current, p, overwrite)
        self.check(current.device)
        from lsgcli.neurons.kernels.gpu import layout, sequence, shapes

        shape = shapes.compiled(p.surrogate)
        if shape is None or current.numel() == 0 or p.beta.dim() >= current.dim() or current.dtype not in TYPES:
            return reference(current, p, overwrite)
        launch = sequence.Launch(layout.of_neurons(current, p.beta, over_time(p.alpha, current.dim())[0]), None, p, shape)
        return sequence.Sequence.apply(current, None, None, None, p.beta, _learned(p), launch)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        if is_tracing(z):
            return autograd.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        self.check(z.device)
        from lsgcli.neurons.kernels.gpu import layout, sequence, shapes

        shape = shapes.compiled(p.surrogate)
        if shape is None or not _fits(z, norm, p, pool):
            return super().normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        launch = sequence.Launch(layout.of_images(z, pool), norm, p, shape)
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        more = None if residual is None else residual.expand_as(z)
        return sequence.Sequence.apply(z, more, weight, bias, p.beta, _learned(p), launch)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _check_versions(device: torch.device) -> None:
    """Raise a ConfigError if Triton or the device is too old."""
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST:
        raise ConfigError(
            f"backend: found Triton {triton.__version__}, expected 3.3 or newer",
            hint="Use torch 2.7 or newer, whose CUDA releases include it, or --backend auto.",
        )
    if (capability := torch.cuda.get_device_capability(device)) < CAPABILITY:
        raise ConfigError(
            f"backend: found {device} of compute capability {'.'.join(map(str, capability))}, expected 8.0 or higher for triton",
            hint="Use --backend auto.",
        )


def _fits(z: Tensor, norm: NormParameters | None, p: LIFParameters, pool: int) -> bool:
    """Whether the kernels support the type and sizes, and torch's batch_norm and pooling would accept them."""
    if z.dim() != 5 or z.dtype not in TYPES or z.numel() == 0 or pool > min(LARGEST_POOL, *z.shape[3:]):
        return False
    one_value = norm is not None and norm.training and z.numel() == z.shape[2]
    return not one_value and all(_per_channel(v) for v in (p.beta, over_time(p.alpha, z.dim())[0]))


def _learned(p: LIFParameters) -> Tensor | None:
    """The threshold, if it is learned."""
    return p.threshold if isinstance(p.threshold, Tensor) else None


def _per_channel(v: Tensor) -> bool:
    """Whether a decay or width for a step (B, C, H, W) varies at most between channels."""
    return v.dim() <= 4 and all(size == 1 for d, size in enumerate(reversed(v.shape)) if d != 2)


triton = register("backend", "triton")(Triton())
