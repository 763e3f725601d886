"""Folding tdBN into the convolutions: the same function, in another structure."""

import copy

import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.models.fold import fold, is_folded
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import TdBatchNorm2d
from tests.unit.models.helpers import SMALL, seasoned
from tests.unit.neurons.helpers import close


@pytest.fixture(params=SMALL)
def which(request):
    """Each small network."""
    return request.param


def test_folding_in_float32(which):
    """Each folded convolution gives the currents of convolution and tdBN, to single precision."""
    net = seasoned(which, dtype=torch.float32)
    folded = dict(fold(net).named_modules())
    before = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}
    assert before
    for name, module in before.items():
        x = torch.randn(2, 2, module.conv.in_channels, 4, 4)
        with torch.no_grad():  # otherwise inputs are saved as numbers of spikes
            assert close(folded[name](x), module(x), 1e-5)


def test_folded_network_has_plain_convolutions(which):
    """No tdBN is left, each convolution has a bias, and the network that was folded is as it was."""
    net = seasoned(which).train()
    before = copy.deepcopy(net.state_dict())
    folded = fold(net)
    assert not any(isinstance(m, TdBatchNorm2d) for m in folded.modules())
    assert all(m.bias is not None for m in folded.modules() if isinstance(m, nn.Conv2d))
    assert not folded.training
    assert net.training
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_folding_twice(which):
    """A folded network folds to itself."""
    folded = fold(seasoned(which))
    again = fold(folded)
    assert again.state_dict().keys() == folded.state_dict().keys()
    assert all(torch.equal(value, folded.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_tdbn_that_follows_no_convolution_remains(tmp_path):
    """Of a network of a plug-in: the rest is folded, and its export can be read again."""
    net = models.build(**SMALL["vggsnn"])
    net.extra = TdBatchNorm2d(4)
    folded = fold(net.eval())
    assert is_folded(folded)
    assert not is_folded(net)
    assert isinstance(folded.extra, TdBatchNorm2d)
