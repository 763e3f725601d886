"""The equations of one step in a loop, with gradients by autograd: slow, but simple enough to serve as an oracle."""

import torch
from torch import Tensor

from lsgcli.neurons.kernels import Backend
from lsgcli.neurons.step import LIFParameters, initial_state, measure, step
from lsgcli.registry import register


class Autograd(Backend):
    """The oracle for other backends; ``overwrite`` has no effect."""

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        wide = current.to(torch.promote_types(current.dtype, torch.float32))
        state, spikes = initial_state(wide[0]), []
        for current_t, p_t in zip(wide, p.each_step(wide), strict=True):
            o, state = step(current_t, state, p_t)
            if p.measured is not None:
                measure(p.measured, state.u)
            spikes.append(o)
        return torch.stack(spikes).to(current.dtype)


autograd = register("backend", "autograd")(Autograd())
