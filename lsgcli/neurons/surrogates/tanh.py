"""The derivative of the hyperbolic tangent as a surrogate."""

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "tanh")
def tanh(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = sech^2(2x / width) / width, the derivative of tanh(2x / width) / 2.

    With area 1 and a given peak this is the same function as :func:`~lsgcli.neurons.surrogates.sigmoid.sigmoid`, since
    tanh(y) = 2 sigmoid(2y) - 1. The literature lists both because it scales them differently; at one equivalent width
    they cannot differ.

    Source: Lian et al., IJCAI 2023, Figure 1.
    """
    return (1 - (2 * x / width).tanh().square()) / width
