"""The gradient of whole networks: the reference against plain autograd, and a static image against its repetition."""

import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.neurons import LIF
from tests.unit.models.helpers import EVERY, SMALL, backward, firing_rates, image, sequence, small
from tests.unit.neurons.helpers import BACKENDS, close


def compare(which, static=False, **arguments):
    """Logits and all gradients of a network under ``reference`` against those under ``autograd``."""
    expected, found = (small(which, backend=name, **arguments) for name in BACKENDS)
    make = image if static else sequence
    batch = 6 if which == "mlp" else 2  # over one pixel, a norm of two values has no gradient
    assert close(backward(found, make(found, batch)), backward(expected, make(expected, batch)))
    gradients = dict(expected.named_parameters())
    assert gradients.keys() == dict(found.named_parameters()).keys()
    for name, parameter in found.named_parameters():
        assert close(parameter.grad, gradients[name].grad), name
    return found, gradients


@pytest.mark.parametrize("static", [False, True], ids=["sequence", "static"])
@pytest.mark.parametrize("which", SMALL)
def test_network_equals_autograd(which, static):
    """Method lsg: every weight's, norm's and decay's gradient, to 1e-9; and each of them is there."""
    net, gradients = compare(which, static)
    assert all(0.02 < rate < 0.98 for rate in firing_rates(net, sequence(net)).values())
    assert all(p.grad.abs().max() > 0 for p in gradients.values())
    assert sum(name.endswith(".b") for name in gradients) == len(net.spiking_layers())


@pytest.mark.parametrize("which", SMALL)
def test_without_normalisation(which):
    _, gradients = compare(which, norm="none", method="adaptive")
    assert gradients[next(iter(gradients))].grad.any()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("which", EVERY)
def test_static_image_is_the_repeated_sequence(which, training):
    """(B, C, H, W) gives what T copies of it give: outputs, gradients, running statistics."""
    once, repeated = (small(which).train(training) for _ in range(2))
    x = image(once, batch=3)
    logits = backward(once, x)
    assert logits.shape == (3, 3, 10)
    assert close(logits, backward(repeated, x.expand(3, *x.shape)))
    for (name, a), b in zip(once.named_parameters(), repeated.parameters(), strict=True):
        removed = training and name.endswith("conv.bias")  # a constant, by the normalisation
        assert a.grad.abs().max() < 1e-9 if removed else close(a.grad, b.grad), name
    for (name, a), b in zip(once.named_buffers(), repeated.buffers(), strict=True):
        assert close(a, b), name


@pytest.mark.parametrize("which", SMALL)
def test_stem_runs_once_for_a_static_image(which):
    """The first convolution sees B images, not T * B; a sequence is convolved at every step, and so are all later layers."""
    net, batches = small(which), []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output: batches.append(len(args[0])))
    net(image(net))
    assert batches[0] == 2
    assert set(batches[1:]) == {6}
    batches.clear()
    net(sequence(net))
    assert set(batches) == {6}


@pytest.mark.parametrize("which", SMALL)
def test_neuron_arguments_reach_every_layer(which):
    """Decay, threshold, method, width, surrogate and backend of the call are those of all layers; tdBN knows the threshold."""
    torch.manual_seed(0)
    neuron = {"decay": 0.6, "threshold": 0.8, "method": "fixed", "width": 1.7, "surrogate": "atan", "backend": "reference"}
    net = models.build(**SMALL[which], **neuron)
    lifs = [module for module in net.modules() if isinstance(module, LIF)]
    assert {id(layer.lif) for layer in net.spiking_layers()} == {id(lif) for lif in lifs}
    for lif in lifs:
        assert (lif.threshold, lif.config.method, lif.config.surrogate, lif.backend) == (0.8, "fixed", "atan", "reference")
        assert lif.beta.item() == pytest.approx(0.6)
        assert lif.alpha.item() == pytest.approx(1.7)
    assert {layer.norm.threshold for layer in net.spiking_layers() if layer.norm} == {0.8}
