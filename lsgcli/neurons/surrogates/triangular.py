"""The triangular surrogate."""

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "triangular")
def triangular(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = max(0, 1 - abs(x)/width) / width, which is 0 from abs(x) = width on.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018.
    """
    return (1 - x.abs() / width).clamp_min(0) / width
