"""spikingjelly's LIFNode for ``lsgcli.analysis.inspect``.

    decay_input=False:   v[t] = v - (v - v_reset) / tau + x[t]
    decay_input=True:    v[t] = v + (x[t] - (v - v_reset)) / tau          with v of the previous step, after its reset

u = v - v_reset before the reset (v_reset = 0 if it is None). ``detach_reset`` needs no handling: gradients are the network's own.
"""

from functools import partial

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import LIFNode

from lsgcli.analysis import Dynamics, Layer, equivalent_width, height_of, pairs

reset = functional.reset_net  # LIFNode keeps its potential between batches


def layers(net):
    """Every LIFNode, in either step mode, with the linear layer or convolution before it."""
    return [
        Layer(name, node, weight, partial(dynamics, node), steps=node.step_mode == "s")
        for name, node, weight in pairs(net, LIFNode)
    ]


def dynamics(node):
    """The equations of a LIFNode."""
    height = height_of(node.surrogate_function)
    return Dynamics(
        decay=torch.tensor(1 - 1 / node.tau),
        threshold=node.v_threshold - (node.v_reset or 0.0),
        width=equivalent_width(height),
        surrogate=height,
        reset="soft" if node.v_reset is None else "hard",
        gain=1 / node.tau if node.decay_input else 1.0,
    )
