"""The networks' layers, channels and sizes against their description, their gradients, and what folding leaves of them."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.models.fold import fold, is_folded
from lsgcli.neurons import LIF, TdBatchNorm2d
from tests.unit.models.helpers import EVERY, SMALL, backward, firing_rates, image, seasoned, sequence, small
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import BACKENDS, close

VGG_CHANNELS = [64, 128, 256, 256, 512, 512, 512, 512]
RES_CHANNELS = [128] * 7 + [256] * 6 + [512] * 4  # of the 3x3 convolutions


def count(net):
    return sum(p.numel() for p in net.parameters())


def convolutions(net, side):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (side, side)]


def test_vggsnn_at_full_width():
    """Channels, and 9 * (products of neighbours) + 2 per norm channel + linear + one decay a layer."""
    net = models.build("vggsnn")
    assert [layer.synapse.out_channels for layer in net.spiking_layers()] == VGG_CHANNELS
    weights = 9 * (2 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
    norms = 2 * (64 + 128 + 256 + 256 + 4 * 512)
    assert count(net) == weights + norms + (512 * 3 * 3 * 10 + 10) + 8
    assert net.T == 10
    assert net.spec.input_size == 48


@pytest.mark.parametrize("residual", ["add", "sew"])
def test_resnet19_at_full_width(residual):
    """17 convolutions 3x3 and two linear layers, which are the 19; two shortcuts 1x1; parameters by own arithmetic."""
    net = models.build("resnet19", residual=residual)
    three, one = convolutions(net, 3), convolutions(net, 1)
    assert [c.out_channels for c in three] == RES_CHANNELS
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in one] == [(128, 256, 2), (256, 512, 2)]
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(512, 256), (256, 10)]
    weights = 9 * sum(a * b for a, b in zip([3, *RES_CHANNELS[:-1]], RES_CHANNELS, strict=True)) + 128 * 256 + 256 * 512
    norms = 2 * (sum(RES_CHANNELS) + 256 + 512)
    neurons = 1 + 16 + 1 + (2 if residual == "sew" else 0)
    assert len(net.spiking_layers()) == neurons
    assert count(net) == weights + norms + (512 * 256 + 256) + (256 * 10 + 10) + neurons
    assert net.T == 2
    assert net.spec.in_channels == 3


def test_a_normalised_hidden_layer():
    """linear, tdBN and LIF once more in numpy; the linear layer has no bias, which the normalisation would remove."""
    net = small("resnet19-add", hidden_norm=True)
    seen = {}
    last, hidden = list(net.blocks())[-1][1], net.hidden
    last.register_forward_hook(lambda module, args, output: seen.update(x=output.detach().mean((3, 4)).numpy()))
    net.classifier.register_forward_pre_hook(lambda module, args: seen.update(spikes=args[0].detach().numpy()))
    backward(net, sequence(net, batch=5))
    norm, weight = hidden.current.norm, hidden.current.conv.weight.detach().flatten(1).numpy()
    current = oracle.tdbn(seen["x"] @ weight.T, norm.weight.detach().numpy(), norm.bias.detach().numpy(), 0.5)
    beta, _ = oracle.decay(hidden.lif.b.item())
    expected = oracle.lif(current, np.zeros_like(current), beta, 1.0, 0.5, "rectangular").o
    assert np.array_equal(seen["spikes"], expected)
    assert 0.05 < expected.mean() < 0.95
    assert all(p.grad is not None and p.grad.any() for p in hidden.parameters())
    assert count(net) - count(small("resnet19-add")) == 2 * len(norm.weight) - len(norm.weight)
    assert net.spiking_layers()[-1].name == "hidden"


def test_start_weights():
    """Kaiming-normal by fan_out: standard deviation sqrt(2 / (9 C')), mean 0."""
    torch.manual_seed(0)
    conv = models.build("vggsnn").spiking_layers()[4].synapse
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert abs(conv.weight.mean().item()) < 1e-4


@pytest.mark.parametrize(
    "shape",
    [
        (2, 16, 16),
        (1, 3, 2, 2, 16, 16),
        (2, 3, 16, 16),
        (3, 2, 2, 16, 32),
        (3, 2, 2, 32, 16),
        (3, 2, 2, 32, 32),
        (0, 2, 2, 16, 16),
    ],
)
def test_wrong_input(shape):
    """An input of other dimensions, channels or size than the network's is refused, naming its shape."""
    with pytest.raises(ConfigError, match="found a"):
        models.build(**SMALL["vggsnn"])(torch.zeros(shape))


def test_mlp():
    """Two hidden layers of 256, and any shape of input; by default the 140 channels of SHD."""
    net = models.build("mlp")
    assert [layer.synapse.weight.shape for layer in net.spiking_layers()] == [(256, 140, 1, 1), (256, 256, 1, 1)]
    assert net.eval()(torch.zeros(2, 3, 1, 1, 140)).shape == (2, 3, 20)
    square = models.build("mlp", in_channels=2, input_size=8, num_classes=4).eval()
    assert square(torch.zeros(2, 3, 2, 8, 8)).shape == (2, 3, 4)
    with pytest.raises(ConfigError, match=r"expected .* with C, H, W = \(2, 8, 8\)"):
        square(torch.zeros(2, 3, 2, 1, 8))


def test_one_row_needs_a_network_for_it():
    with pytest.raises(ConfigError, match="found an input of 1 x 48, expected a multiple of 16") as caught:
        models.build("vggsnn", input_size=48, input_height=1)
    assert "--arch mlp" in caught.value.hint


def test_all_wrong_arguments_at_once():
    with pytest.raises(ConfigError) as error:
        models.build("resnet19", T=0, residual="sum", num_classes=0, input_size=16.0, width_multiplier=math.nan, treshold=1.0)
    words = ("T: found 0", "residual: found 'sum'", "num_classes: found 0", "size: found 16.0", "width_multiplier: found nan")
    assert all(word in str(error.value) for word in (*words, "threshold"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "matched-width"}, "width: not given with the method matched-width"),
        ({"width": 0.5}, "width: found 0.5 with the default method lsg"),
    ],
)
def test_a_width_that_is_missing_or_without_effect(settings, message):
    """As for single layers."""
    with pytest.raises(ConfigError, match=message):
        models.build("vggsnn", T=2, num_classes=3, in_channels=2, input_size=16, width_multiplier=1 / 16, **settings)
    with pytest.raises(ConfigError, match=message):
        LIF(**settings)


@pytest.fixture(params=SMALL)
def which(request):
    return request.param


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
