"""The networks' layers, channels and sizes against their description, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, TdBatchNorm2d
from tests.unit.models.helpers import SMALL, backward, sequence, small
from tests.unit.neurons import oracle

VGG_CHANNELS = [64, 128, 256, 256, 512, 512, 512, 512]
RES_CHANNELS = [128] * 7 + [256] * 6 + [512] * 4  # of the 3x3 convolutions


def count(net):
    return sum(p.numel() for p in net.parameters())


def convolutions(net, side):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (side, side)]


def traced(net, x):
    """(channels in, channels out, stride, side of the output) of each convolution, in the order they run."""
    seen = []

    def record(module, args, output):
        seen.append((module.in_channels, module.out_channels, module.stride[0], output.shape[-1]))

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record)
    with torch.no_grad():
        net(x)
    return seen


def test_vggsnn_at_full_width():
    """Channels, and 9 * (products of neighbours) + 2 per norm channel + linear + one decay a layer."""
    net = models.build("vggsnn")
    assert [layer.synapse.out_channels for layer in net.spiking_layers()] == VGG_CHANNELS
    weights = 9 * (2 * 64 + 64 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 3 * 512 * 512)
    norms = 2 * (64 + 128 + 256 + 256 + 4 * 512)
    assert count(net) == weights + norms + (512 * 3 * 3 * 10 + 10) + 8
    assert net.T == 10
    assert net.spec.input_size == 48


def test_vggsnn_sizes():
    """3x3 convolutions of stride 1, and a pooling behind the 2nd, 4th, 6th and 8th."""
    net = models.build("vggsnn", width_multiplier=1 / 64, input_size=48)
    found = traced(net.eval(), torch.zeros(1, 1, 2, 48, 48))
    channels = [2, 1, 2, 4, 4, 8, 8, 8, 8]
    sides = [48, 48, 24, 24, 12, 12, 6, 6]
    assert found == [(channels[i], channels[i + 1], 1, sides[i]) for i in range(8)]
    assert net.classifier.in_features == 8 * 3 * 3
    pools = [m for m in net.modules() if isinstance(m, nn.AvgPool2d)]
    assert [p.kernel_size for p in pools] == [2, 2, 2, 2]


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


@pytest.mark.parametrize("residual", ["add", "sew"])
def test_resnet19_sizes(residual):
    """Stride 2 in the first convolution of the second and third stage, and in their shortcuts; nowhere else."""
    net = models.build("resnet19", residual=residual, width_multiplier=1 / 64, input_size=32)
    found = traced(net.eval(), torch.zeros(1, 1, 3, 32, 32))
    assert found[0] == (3, 2, 1, 32)
    assert found[1:7] == [(2, 2, 1, 32)] * 6
    assert sorted(found[7:10]) == [(2, 4, 2, 16), (2, 4, 2, 16), (4, 4, 1, 16)]  # with the shortcut
    assert found[10:14] == [(4, 4, 1, 16)] * 4
    assert sorted(found[14:17]) == [(4, 8, 2, 8), (4, 8, 2, 8), (8, 8, 1, 8)]
    assert found[17:] == [(8, 8, 1, 8)] * 2


def test_eta_where_currents_are_summed():
    """add: 1/sqrt(2) in the second tdBN of a block and in the shortcut's; sew and vggsnn, which sum no currents: 1."""
    net = models.build(**SMALL["resnet19-add"])
    for stage in net.stages:
        for block in stage:
            assert block.first.current.norm.eta == 1
            assert block.second.norm.eta == pytest.approx(1 / math.sqrt(2))
            assert isinstance(block.shortcut, nn.Identity) or block.shortcut.norm.eta == pytest.approx(1 / math.sqrt(2))
    assert net.stem.current.norm.eta == 1
    for which in ("resnet19-sew", "vggsnn"):
        net = models.build(**SMALL[which])
        assert {m.eta for m in net.modules() if isinstance(m, TdBatchNorm2d)} == {1}


def test_blocks_add_currents_or_spikes():
    """A block's output is 0 or 1 where currents are summed before the neuron, and counts up to 2 and more in sew."""
    values = {}
    for residual in ("add", "sew"):
        net = small(f"resnet19-{residual}")
        seen = values[residual] = set()
        for stage in net.stages:
            for block in stage:
                block.register_forward_hook(lambda module, args, output, seen=seen: seen.update(output.unique().tolist()))
        net(torch.randn(3, 2, 3, 8, 8, dtype=torch.float64))
    assert values["add"] == {0, 1}
    assert {0, 1, 2, 3} <= values["sew"]


@pytest.mark.parametrize("which", SMALL)
def test_layers_are_listed_with_what_feeds_them(which):
    """spiking_layers: names are unique, and each synapse's output is as wide as its norm."""
    net = models.build(**SMALL[which])
    layers = net.spiking_layers()
    assert len({layer.name for layer in layers}) == len(layers)
    for layer in layers:
        if layer.norm is None:
            assert isinstance(layer.synapse, nn.Linear)
        else:
            assert layer.norm.num_features == layer.synapse.out_channels
            assert layer.synapse.bias is None


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


def test_mlp_is_fully_connected():
    """Its first currents are a matrix product of the flattened input, normalised."""
    torch.manual_seed(0)
    net = models.build("mlp", T=2, in_channels=2, input_size=3, width_multiplier=1 / 64, num_classes=2).double().eval()
    x, seen = torch.randn(2, 5, 2, 3, 3, dtype=torch.float64), []
    net.hidden[0].lif.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(2).clone()))
    net(x)
    weight = net.hidden[0].current.conv.weight.flatten(1)
    expected = x.flatten(2) @ weight.T * 0.5 / (1 + net.hidden[0].current.norm.eps) ** 0.5  # v_th, running variance 1, mean 0
    torch.testing.assert_close(seen[0], expected)


def test_one_row_needs_a_network_for_it():
    with pytest.raises(ConfigError, match="found an input of 1 x 48, expected a multiple of 16") as caught:
        models.build("vggsnn", input_size=48, input_height=1)
    assert "--arch mlp" in caught.value.hint


WRONG = {"T": (0,), "input_height": (0,), "input_size": (0, -16, 16.0), "num_classes": (0,), "in_channels": (-1,)}
WRONG |= {
    "width_multiplier": (0, -1.0, math.nan),
    "residual": ("sum",),
    "decay": (1.5,),
    "method": ("lgs",),
    "treshold": (0.5,),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
@pytest.mark.parametrize("arch", ["vggsnn", "resnet19"])
def test_wrong_arguments(arch, key, value):
    """Values that no network can be built from are refused, naming what was found."""
    with pytest.raises(ConfigError) as error:
        models.build(arch, **{key: value})
    assert repr(value) in str(error.value) or repr(key) in str(error.value)


def test_all_wrong_arguments_at_once():
    """One error tells of every mistake."""
    with pytest.raises(ConfigError) as error:
        models.build("resnet19", T=0, residual="sum", num_classes=0, treshold=1.0)
    assert all(
        word in str(error.value) for word in ("T: found 0", "residual: found 'sum'", "num_classes: found 0", "threshold")
    )


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
