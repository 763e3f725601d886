"""Widths that follow the predicted distribution of u at each timestep, the gain of the normalisation included."""

import torch
from torch import Tensor

from lsgcli.neurons.methods import NARROWEST, Layer, Method
from lsgcli.registry import register


@register("method", "mpd-agl")
class MembranePotentialDynamics(Method):
    """The decay is learned, and alpha = 2 gamma v_th at the first timestep, 2 gamma v_th sqrt(1 + beta^2) after it.

    gamma is the mean weight of the layer's tdBN, which scales the current: a current of standard deviation gamma v_th gives u that
    of gamma v_th at t = 1, and of gamma v_th sqrt(1 + beta^2) at t = 2 (without reset, inputs uncorrelated in time). Its absolute
    value is taken, it gets no gradient from here, and where no tdBN stands before the neurons it is 1. Where two branches are
    summed, it is that of the branch that ends in the neurons. That the decay is learned as under ``lsg``, so that the two differ
    in their width alone, is our choice.

    Source: Jiang et al., "Adaptive Gradient Learning for Spiking Neural Networks by Exploiting Membrane Potential Dynamics",
    IJCAI 2025, doi 10.24963/ijcai.2025/464.
    """

    learns_decay = True
    formula = "2 gamma v_th, then times sqrt(1+beta^2)"

    def alpha(self, layer: Layer) -> Tensor:
        """(T, ...): one width for the first timestep, another for all others."""
        first = 2 * layer.threshold * layer.gamma.abs().clamp_min(NARROWEST)
        later = first * (1 + layer.beta.square()).sqrt()
        return torch.stack([first.expand_as(later), *[later] * (layer.T - 1)])
