"""What each layer states that it passes on, on which depends in how many bits the next one saves it."""

import pytest
import torch

from lsgcli import models
from lsgcli.models.layers import ConvNorm
from tests.unit.models.helpers import EVERY, sequence, small


def wrong_levels(net):
    """Convolutions that receive other values than multiples of 1/levels, which the layer before states."""
    wrong, convolutions = [], [module for module in net.modules() if isinstance(module, ConvNorm) and module.levels is not None]

    def watch(module):
        def check(conv, args):
            counts = args[0].double() * module.levels
            if not torch.equal(counts, counts.round()):
                wrong.append(module)

        module.conv.register_forward_pre_hook(check)

    for module in convolutions:
        watch(module)
    net(sequence(net))
    assert len(convolutions) > 0
    return wrong


@pytest.mark.parametrize("which", EVERY)
def test_every_layer_states_what_it_passes_on(which):
    assert wrong_levels(small(which)) == []


def test_a_wrong_statement_is_found():
    net = small("vggsnn")
    net.features[2].current.levels = 1  # it receives averages of 4 spikes
    assert wrong_levels(net) == [net.features[2].current]


def test_neurons_that_pass_on_their_threshold_are_real_valued():
    net = models.build("vggsnn", method="trsg", T=2, input_size=16, width_multiplier=1 / 32)
    assert {block.out.levels for block in net.features} == {None}
