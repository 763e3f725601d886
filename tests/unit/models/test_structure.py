"""The networks' layers, channels and sizes against their description, their gradients, and what folding leaves of them."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.models.fold import fold, is_folded
from lsgcli.neurons import LIF, TdBatchNorm2d
from tests.exports import slow_if
from tests.unit.models.helpers import EVERY, SMALL, backward, firing_rates, image, seasoned, sequence, small
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import BACKENDS, METHODS, close


def test_a_normalised_hidden_layer():
    """linear, tdBN and LIF once more in numpy; the linear layer has no bias, which the normalisation would remove."""
    net, plain = small("resnet19-add", hidden_norm=True), small("resnet19-add")
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
    assert sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in plain.parameters()) == len(norm.weight)
    assert net.spiking_layers()[-1].name == "hidden"


def test_start_weights():
    """Kaiming-normal by fan_out: standard deviation sqrt(2 / (9 C')), mean 0."""
    torch.manual_seed(0)
    net = models.build("vggsnn")
    assert (net.T, net.spec.input_size) == (10, 48)
    conv = net.spiking_layers()[4].synapse
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
        ({"method": "matched-width"}, "width: found None with the method matched-width"),
        ({"width": 0.5}, "width: found 0.5 with the method lsg"),
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


@pytest.mark.parametrize("make", [sequence, image])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "none", "method": "adaptive"},
        {"reset": "soft", "input_gain": "1-beta", "threshold_learned": True, "init_potential": "measured"},
        *(slow_if(method != "lsg", {"decay_per": "channel", "method": method, "width": 1.0}) for method in METHODS),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
@pytest.mark.parametrize("which", SMALL)
def test_network_equals_autograd(which, options, make):
    """Logits and every weight's, norm's and neuron's gradient, to 1e-9; each of them is there, and differs between channels of neurons."""
    nets = [small(which, backend=name, **options) for name in BACKENDS]
    for _ in range(2):  # in the second step, an initial potential is not 0
        found, expected = (backward(net, make(net, batch=6)) for net in nets)
        assert close(found, expected)
        for (name, parameter), other in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
            assert close(parameter.grad, other.grad), name
            assert parameter.grad.any() or options, name
            if name.endswith(".b") and parameter.numel() > 1 and make is sequence:
                assert parameter.grad.unique().numel() > 1
        for net in nets:
            net.end_step()
    layers = nets[0].spiking_layers()
    assert next(nets[0].parameters()).grad.any()
    assert all(len(layer.lif.b) == len(layer.synapse.weight) for layer in layers if "decay_per" in options)
    assert all(layer.lif.initial != 0 for layer in layers[:1] if "init_potential" in options)
    assert options or all(0.02 < rate < 0.98 for rate in firing_rates(nets[0], sequence(nets[0])).values())


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


def test_why_papers_quote_another_number_of_parameters_of_resnet19():
    """With a stem of 64 channels, the first block has a smaller convolution, and a shortcut of 1 x 1 with a normalisation."""
    with torch.device("meta"):
        net = models.build("resnet19", method="fixed")
    ours = sum(p.numel() for p in net.parameters())
    stem = 3 * 9 * 64 + 2 * 64  # of 128 channels in lsg, as large again
    first = 9 * 64 * 128  # of the other half of the inputs
    shortcut = 64 * 128 + 2 * 128
    published = ours - stem - first + shortcut
    assert (ours, published) == (12_697_994, 12_630_858)
    page = (Path(__file__).parents[3] / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert f"{ours:,}" in page
    assert f"{published:,}" in page
