"""The backend for speed; until a kernel of its own exists it is the reference."""

from torch import Tensor

from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register


@register("backend", "fused")
def fused(current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
    """Spikes (T, ...) with the method's gradient."""
    return reference(current, p, overwrite)
