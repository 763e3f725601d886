"""Synaptic operations of networks of other libraries, against the synapses of each spike, counted one by one from hooks of the test."""

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli.analysis import synops
from lsgcli.analysis.energy import fan_out
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from tests.unit.analysis.recording import recorded
from tests.unit.analysis.test_energy import brute, reached
from tests.unit.analysis.test_other_libraries import adapter

T, B = 5, 2
SYNAPSES = (nn.Conv2d, nn.Linear)
FEEDS = {"0": "1", "2": "3", "6": "7", "9": "9"}  # weights, and the neurons that name them


def parts(conv, pool, flatten, linear, neurons):
    torch.manual_seed(1)
    return [
        conv(2, 8, 3, stride=2, padding=1, groups=2),
        neurons(),
        conv(8, 6, (3, 2), padding=(1, 0), dilation=(1, 2)),
        neurons(),
        pool(2),
        flatten(),
        linear(6 * 3 * 2, 9),
        neurons(),
        nn.Dropout(0.5),
        linear(9, 4),
    ]


def batches():
    generator = torch.Generator().manual_seed(5)
    return [(torch.poisson(torch.full((T, b, 2, 12, 12), 0.4), generator), torch.zeros(b, dtype=torch.long)) for b in (B, B)]


def seen(net, neurons, reset):
    """What enters each module of weights, (N, ...) over all calls, and the spikes of each module of neurons, by name."""
    calls = recorded(net.eval(), (*SYNAPSES, neurons), lambda: [(reset(net), net(x)) for x, _ in batches()])
    inputs, spikes = {}, {}
    for name, own in calls.items():
        if isinstance(module := net.get_submodule(name), neurons):
            spikes[name] = np.concatenate([output.numpy().ravel() for _, output in own])
        else:
            axes = 4 if isinstance(module, nn.Conv2d) else 2
            inputs[name] = np.concatenate([x.flatten(0, x.dim() - axes).numpy() for x, _ in own])
    return inputs, spikes


def plain(module):
    """torch's own module, which takes no sequences."""
    if isinstance(module, nn.Linear):
        return module
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    return nn.Conv2d(module.in_channels, module.out_channels, **{name: getattr(module, name) for name in names})


def check(record, net, neurons, reset, prefix):
    inputs, spikes = seen(net, neurons, reset)
    modules = dict(net.named_modules())
    assert [layer["name"] for layer in record["layers"]] == [prefix + name for name in FEEDS.values()]
    total = 0.0
    for layer, (number, feeds) in zip(record["layers"], FEEDS.items(), strict=True):
        values = inputs[prefix + number].astype(np.float64)
        synapses = reached(plain(modules[prefix + number]), torch.from_numpy(inputs[prefix + number]))
        kind = {"0": "events", "6": "averages"}.get(number, "spikes")
        ac, mac = brute(kind, values, synapses, 4)
        assert (layer["input"], layer["averages_over"]) == (kind, 4 if kind == "averages" else None)
        assert (layer["ac"], layer["mac"]) == (pytest.approx(ac / (2 * B)), pytest.approx(mac / (2 * B)))
        assert layer["ann_mac"] == synapses.sum()
        assert layer["passes"] == len(values) / (2 * B) == T
        assert layer["density"] == pytest.approx((values != 0).mean())
        rate = spikes[prefix + feeds].mean() if prefix + feeds in spikes else None
        assert layer["firing_rate"] == (None if rate is None else pytest.approx(rate))
        assert ac > 0
        total += (0.9 * ac + 4.6 * mac) / (2 * B)
    assert record["total"]["energy_pj"] == pytest.approx(total)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_spikingjelly(mode):
    """Its layers take whole sequences, (T, B, C, H, W), or single timesteps."""
    jelly = adapter("spikingjelly_lif", "spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            made = parts(layer.Conv2d, layer.AvgPool2d, layer.Flatten, layer.Linear, lambda: neuron.LIFNode(v_threshold=0.2))
            self.parts = nn.Sequential(*made)
            functional.set_step_mode(self, mode)

        def forward(self, x):
            return self.parts(x) if mode == "m" else torch.stack([self.parts(now) for now in x])

    net = Net()
    record = synops(net, batches(), adapter=jelly.layers, reset=jelly.reset)
    check(record, net, neuron.LIFNode, jelly.reset, "parts.")


def test_snntorch():
    """Called once per timestep."""
    snn = adapter("snntorch_leaky", "snntorch")
    import snntorch

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            leaky = lambda: snntorch.Leaky(0.8, threshold=0.15, init_hidden=True)  # noqa: E731
            self.parts = nn.Sequential(*parts(nn.Conv2d, nn.AvgPool2d, nn.Flatten, nn.Linear, leaky))

        def forward(self, x):
            return torch.stack([self.parts(now) for now in x])

    net = Net().train()
    record = synops(net, batches(), adapter=snn.layers, reset=snn.reset)
    assert net.training
    check(record, net, snntorch.Leaky, snn.reset, "parts.")


def test_an_image_at_every_timestep_is_multiplied_at_every_timestep():
    net = nn.Sequential(nn.Linear(6, 8), LIF(decay=0.5), nn.Linear(8, 3))
    image = torch.rand(1, 4, 6).expand(T, 4, 6)
    first, second = synops(net, [(image, torch.zeros(4))])["layers"]
    assert (first["input"], first["mac"], first["passes"]) == ("real", T * 6 * 8, T)
    assert (first["name"], second["name"]) == ("1", "2")
    whole = [(torch.ones(T, 4, 6), torch.zeros(4))]
    assert synops(net, whole)["layers"][0]["ac"] == T * 6 * 8
    assert synops(net, whole, events=False)["layers"][0]["mac"] == T * 6 * 8


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize("mode", ["zeros", "circular", "replicate", "reflect"])
@pytest.mark.parametrize(
    ("kind", "size", "arguments"),
    [
        (nn.Conv1d, (9,), {"kernel_size": 4, "padding": "same"}),
        (nn.Conv1d, (9,), {"kernel_size": 3, "padding": 2, "stride": 2}),
        (nn.Conv2d, (6, 7), {"kernel_size": (2, 3), "padding": "same", "groups": 2}),
        (nn.Conv2d, (6, 7), {"kernel_size": (3, 4), "padding": (1, 2), "stride": (1, 3)}),
        (nn.Conv2d, (6, 7), {"kernel_size": 3, "padding": "valid"}),
        (nn.Conv3d, (4, 5, 6), {"kernel_size": (3, 2, 3), "padding": (1, 0, 2), "dilation": (1, 2, 1)}),
    ],
    ids=str,
)
def test_fan_out_of_any_convolution(kind, size, arguments, mode):
    """The gradient of the sum of the outputs if all weights are 1."""
    conv = kind(2, 4, bias=False, padding_mode=mode, **arguments)
    nn.init.ones_(conv.weight)
    x = torch.zeros(1, 2, *size, requires_grad=True)
    (expected,) = torch.autograd.grad(conv(x).sum(), x)
    assert torch.equal(fan_out(conv, x).float(), expected[0, 0])


def test_what_is_not_counted_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.lif, self.up = nn.Linear(4, 4), LIF(), nn.ConvTranspose1d(4, 4, 2)

    with pytest.raises(ConfigError, match=r"found ConvTranspose1d up"):
        synops(Net(), [])
    net = nn.Sequential(nn.Linear(6, 8), LIF())
    with pytest.raises(ConfigError, match="no mini-batches"):
        synops(net, [])
    with pytest.raises(ConfigError, match="need an adapter"):
        synops(nn.Linear(2, 2), [])
    with pytest.raises(ConfigError, match="as mini-batch"):
        synops(net, torch.rand(3, 2, 6))
