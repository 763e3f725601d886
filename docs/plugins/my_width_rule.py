"""A width for each timestep."""

import torch
from torch import Tensor

from lsgcli.neurons.methods import Method
from lsgcli.neurons.widths import LayerState, WidthRule
from lsgcli.registry import register


class Growing(WidthRule):
    """alpha = 2 v_th sqrt(1 + beta^2 + ... + beta^(2t)): the prediction without reset, for each timestep."""

    formula = "2 v_th sqrt(1+beta^2+...)"
    of_decay = True  # so that neurons without a decay are refused

    def alpha(self, layer: LayerState) -> Tensor:
        powers = torch.stack([layer.beta ** (2 * t) for t in range(layer.T)])
        return 2 * layer.threshold * powers.cumsum(0).sqrt()


growing = register("method", "growing")(Method(learns_decay=True, width=Growing()))
