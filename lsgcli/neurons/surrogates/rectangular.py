"""The rectangular surrogate, the paper's choice."""

from torch import Tensor

from lsgcli.registry import register


@register("surrogate", "rectangular")
def rectangular(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = 1/width where abs(x) < width/2, else 0.

    Source: Wu et al., "Spatio-Temporal Backpropagation", Front. Neurosci. 2018, equation 24; Lian et al., IJCAI 2023.
    """
    return (x.abs() < width / 2).to(x.dtype) / width
