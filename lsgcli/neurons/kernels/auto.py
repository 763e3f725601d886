"""``auto``: the fastest backend that can run where the current is."""

from torch import Tensor

from lsgcli.neurons.kernels.fused import fused
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register


@register("backend", "auto")
def auto(current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
    """Spikes (T, ...) with the method's gradient."""
    return fused(current, p, overwrite)
