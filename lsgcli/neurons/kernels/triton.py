"""``triton``: tdBN, neurons and pooling in fused kernels for CUDA devices.

A layer is two kernels forward (moments of the input; then normalise, add, integrate, fire and average in one pass) and two backward.
Of the size of the activations it keeps the convolution's output alone (and the residual, where there is one); the membrane potential is
computed again in the backward pass. Sums are taken in an order that depends on shapes alone, so that a run gives the same bits every
time on one device. The host never waits for the device.

What has been run: every kernel, forward and backward, through Triton's interpreter on a CPU, against the reference; and the compiler,
down to machine code for compute capabilities 8.0 and 9.0. **Nothing has been run or timed on a GPU**: sizes of tiles were chosen by
thought. ``TRITON_INTERPRET=1`` in the environment makes the backend run on CPU tensors, slowly, for such checks.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lsgcli.errors import ConfigError
from lsgcli.extras import install_hint
from lsgcli.neurons.kernels import Backend, NormParameters, is_tracing
from lsgcli.neurons.kernels.autograd import autograd
from lsgcli.neurons.kernels.gpu import interpreted
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.step import LIFParameters, over_time
from lsgcli.registry import register

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LARGEST_POOL = 8  # the neurons of a window are lanes of one tile
OLDEST = (3, 3)  # release of Triton: the first that takes a function as a constant of a kernel
CAPABILITY = (8, 0)  # of the device: the first with bfloat16


class Triton(Backend):
    """Fused kernels for CUDA devices; cases that they do not know run operation by operation.

    These are: surrogates of plug-ins, windows of more than 8 x 8, decays and widths that differ within a channel behind a tdBN, and
    empty tensors. A current that does not lie step after step in memory is copied first.
    """

    def check(self, device: torch.device) -> None:
        if not _installed():
            raise ConfigError(
                "backend 'triton': found no installed package triton",
                hint=f"{install_hint('triton')}; or use --backend auto. torch for CUDA on Linux includes it.",
            )
        if interpreted():
            return
        if device.type != "cuda":
            raise ConfigError(
                f"backend 'triton': found data on the device {device}, expected a CUDA device",
                hint="Use --device cuda, or --backend auto, which takes the fastest backend of each device.",
            )
        _check_versions(device)

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        if is_tracing(current):
            return autograd(current, p, overwrite)
        self.check(current.device)
        from lsgcli.neurons.kernels.gpu import layout, sequence, shapes

        shape = shapes.compiled(p.surrogate)
        if shape is None or current.numel() == 0 or p.beta.dim() >= current.dim() or current.dtype not in TYPES:
            return reference(current, p, overwrite)
        launch = sequence.Launch(layout.of_neurons(current, p.beta, over_time(p.alpha, current.dim())[0]), None, p, shape)
        return sequence.Sequence.apply(current, None, None, None, p.beta, launch)

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
        return sequence.Sequence.apply(z, None if residual is None else residual.expand_as(z), weight, bias, p.beta, launch)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


@cache
def _check_versions(device: torch.device) -> None:
    """Raise a ConfigError where Triton, or the device, is too old."""
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST:
        raise ConfigError(
            f"backend 'triton': found Triton {triton.__version__}, expected 3.3 or newer",
            hint="Use torch 2.7 or newer, whose releases for CUDA bring it, or --backend auto.",
        )
    if (capability := torch.cuda.get_device_capability(device)) < CAPABILITY:
        raise ConfigError(
            f"backend 'triton': found {device} of compute capability {'.'.join(map(str, capability))}, expected 8.0 or higher",
            hint="Use --backend auto, which runs what the device can do.",
        )


def _fits(z: Tensor, norm: NormParameters | None, p: LIFParameters, pool: int) -> bool:
    """Whether the kernels know this type and these sizes, and batch_norm and pooling have no complaint."""
    if z.dim() != 5 or z.dtype not in TYPES or z.numel() == 0 or pool > min(LARGEST_POOL, *z.shape[3:]):
        return False
    one_value = norm is not None and norm.training and z.numel() == z.shape[2]
    return not one_value and all(_per_channel(v) for v in (p.beta, over_time(p.alpha, z.dim())[0]))


def _per_channel(v: Tensor) -> bool:
    """Whether a decay or width of a step (B, C, H, W) differs between channels at most."""
    return v.dim() <= 4 and all(size == 1 for d, size in enumerate(reversed(v.shape)) if d != 2)


triton = register("backend", "triton")(Triton())
