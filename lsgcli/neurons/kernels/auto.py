"""``auto``: the fastest backend for the device of the current."""

from torch import Tensor

from lsgcli import registry
from lsgcli.neurons.kernels import Backend, NormParameters, is_tracing
from lsgcli.neurons.kernels.autograd import autograd
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register

FASTEST = {"cpu": "fused", "cuda": "triton"}  # by device type


class Auto(Backend):
    """The fastest backend for the device of the current: fused, triton, otherwise reference; autograd while tracing."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return fastest(current)(current, p, overwrite)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        return fastest(z).normalise_and_fire(z, norm, p, residual=residual, pool=pool)


def fastest(current: Tensor) -> Backend:
    """The backend for a current."""
    if is_tracing(current):
        return autograd
    backend: Backend = registry.get("backend", FASTEST.get(current.device.type, "reference"))
    return backend if backend.available(current.device) else reference


auto = register("backend", "auto")(Auto())
