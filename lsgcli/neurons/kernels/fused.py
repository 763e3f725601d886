"""The backend for speed; until a kernel of its own exists it is the reference."""

from typing import TYPE_CHECKING

from torch import Tensor

from lsgcli.neurons.kernels.reference import reference
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.neurons.lif import LIFParameters


@register("backend", "fused")
def fused(current: Tensor, p: "LIFParameters", overwrite: bool = False) -> Tensor:
    """Spikes (T, ...) with the method's gradient."""
    return reference(current, p, overwrite)
