"""``auto``: the fastest backend for each device."""

from typing import Any

from torch import Tensor

from lsgcli import registry
from lsgcli.neurons.kernels.base import Backend, NormParameters, is_tracing
from lsgcli.neurons.step import LIFParameters

FASTEST = {"cpu": "fused", "cuda": "compiled"}  # by device type


class Auto(Backend):
    """The fastest backend for the device of the current: fused or compiled, otherwise reference; autograd while tracing."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return self.fastest(current)(current, p, overwrite)

    def normalise_and_fire(self, z: Tensor, norm: NormParameters | None, p: LIFParameters, **behind: Any) -> Tensor:
        return self.fastest(z).normalise_and_fire(z, norm, p, **behind)

    def fastest(self, current: Tensor) -> Backend:
        """The backend for a current."""
        name = "autograd" if is_tracing(current) else FASTEST.get(current.device.type, "reference")
        backend: Backend = registry.get("backend", name)
        return backend if backend.available(current.device) else registry.get("backend", "reference")


auto = registry.register("backend", "auto")(Auto())
