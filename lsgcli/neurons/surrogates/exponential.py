"""The exponential surrogate."""

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "exponential")
def exponential(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = exp(-2 abs(x) / width) / width.

    Source: Shrestha and Orchard, "SLAYER", NeurIPS 2018.
    """
    return (x.abs() * (-2 / width)).exp() / width
