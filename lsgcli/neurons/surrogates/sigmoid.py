"""The derivative of the logistic function as a surrogate."""

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "sigmoid")
def sigmoid(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = k s (1 - s) with s = sigmoid(k x), k = 4 / width: the derivative of sigmoid(k x).

    Source: Zenke and Ganguli, "SuperSpike", Neural Computation 2018, for sigmoidal surrogates in general.
    """
    s = (4 * x / width).sigmoid()
    return s * (1 - s) * 4 / width
