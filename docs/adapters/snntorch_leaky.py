"""snntorch's Leaky for ``lsgcli.analysis.inspect``.

    mem[t] = beta * mem[t-1] + x[t] - reset * threshold            reset_mechanism="subtract"
    mem[t] = beta * mem[t-1] * (1 - reset) + x[t]                  "zero"
    mem[t] = beta * mem[t-1] + x[t]                                "none"

reset is 1 where mem[t-1] was above the threshold, so mem is u, the potential before the reset. A neuron at the threshold does not fire.
"""

from functools import partial

import snntorch

from lsgcli.analysis import Dynamics, Layer, equivalent_width, height_of, pairs

RESETS = {"subtract": "soft-after-decay", "zero": "hard", "none": "none"}


def reset(net):
    """Set all potentials to 0: Leaky keeps its potential between batches unless another is passed."""
    for node in net.modules():
        if isinstance(node, snntorch.Leaky):
            node.reset_mem()


def layers(net):
    """Every Leaky, called once per timestep, with the linear layer or convolution before it."""
    return [Layer(name, node, weight, partial(dynamics, node), steps=True) for name, node, weight in pairs(net, snntorch.Leaky)]


def dynamics(node):
    """The equations of a Leaky.

    Raises:
        ValueError: an option that the equations above do not describe.
    """
    if not node.reset_delay or node.inhibition or node.state_quant or float(node.graded_spikes_factor) != 1:
        raise ValueError("found a Leaky with reset_delay=False, inhibition, state_quant or graded spikes, expected one without")
    height = height_of(node.spike_grad)
    return Dynamics(
        decay=node.beta.detach().clamp(0, 1),
        threshold=float(node.threshold),
        width=equivalent_width(height),
        surrogate=height,
        reset=RESETS[node.reset_mechanism],
        strict=True,
    )
