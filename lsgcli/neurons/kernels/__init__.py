"""Backends of the LIF sequence: one file each, all with the same contract.

A backend is a function

    run(current, p, overwrite) -> spikes

with ``current`` and ``spikes`` of shape (T, ...) and one floating type, ``p`` the :class:`~lsgcli.neurons.LIFParameters`
of the layer, and the gradient with respect to ``current`` and ``p.beta`` that ``lsgcli.neurons.lif`` states. The membrane
potential is kept in float32 or better, whatever the type of the current. ``beta`` broadcasts against one timestep; ``alpha``
does too, or has a leading axis T for a width per timestep. ``overwrite`` permits reuse of the current's memory.
"""

from collections.abc import Callable

from torch import Tensor

from lsgcli.neurons.step import LIFParameters

Backend = Callable[[Tensor, LIFParameters, bool], Tensor]
