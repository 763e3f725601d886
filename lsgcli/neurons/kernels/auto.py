"""``auto``: the fastest backend that can run where the current is."""

from typing import TYPE_CHECKING

from torch import Tensor

from lsgcli.neurons.kernels.fused import fused
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.neurons.lif import LIFParameters


@register("backend", "auto")
def auto(current: Tensor, p: "LIFParameters", overwrite: bool = False) -> Tensor:
    """Spikes (T, ...) with the method's gradient."""
    return fused(current, p, overwrite)
