"""The equations of one step, repeated, with gradients left to autograd: slow, and plain enough to be trusted."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.neurons.lif import LIFParameters


@register("backend", "autograd")
def autograd(current: Tensor, p: "LIFParameters", overwrite: bool = False) -> Tensor:
    """The oracle that other backends are compared with; ``overwrite`` is not made use of."""
    from lsgcli.neurons.lif import initial_state, step

    wide = current.to(torch.promote_types(current.dtype, torch.float32))
    alphas = p.alpha if p.alpha.dim() == current.dim() else p.alpha.expand(len(current), *p.alpha.shape)
    state, spikes = initial_state(wide[0]), []
    for current_t, alpha_t in zip(wide, alphas, strict=True):
        o, state = step(current_t, state, p._replace(alpha=alpha_t))
        spikes.append(o)
    return torch.stack(spikes).to(current.dtype)
