"""The derivative of the arctangent as a surrogate."""

import math

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "atan")
def atan(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = 1 / (width (1 + (pi x / width)^2)), the derivative of atan(pi x / width) / pi.

    Its tails fall as 1/x^2, slower than those of any other shape here.

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021.
    """
    return 1 / (width * (1 + (x * (math.pi / width)).square()))
