"""Networks as graphs of LIF neurons, and single timesteps for low latency with the bits of the whole sequence."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping, Unrolled
from lsgcli.export.runners import QuickLIF, quick
from lsgcli.models.convolution import PrepackedConv2d, prepack
from lsgcli.models.fold import fold
from lsgcli.models.integer import deployed
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.fused import Fused
from tests.exports import exported, saved, slow_if
from tests.unit.models.helpers import ALIKE, FIELD, seasoned, sequence, stepped


class SoftReset(LIF):
    """Neurons that may subtract the threshold instead of starting again from 0."""


@pytest.mark.parametrize("graph", [Unrolled, Stepping])
@pytest.mark.parametrize("options", [{}, {"neuron": "clif"}, {"method": "trsg"}, {"method": "asgl"}, {"method": "ds-atgo"}])
def test_other_neurons_are_refused(graph, options):
    """A graph would run them as LIF."""
    net = seasoned("mlp", batch=8, dtype=torch.float32, **options)
    if not options:
        net.hidden[1].lif = SoftReset()
    found = "--neuron .*" if options else "class SoftReset"
    with pytest.raises(ConfigError, match=f"hidden[12]: found neurons of {found}"):
        graph(net)


@pytest.mark.parametrize(
    "options",
    [
        {"reset": "soft"},
        {"reset": "none", "threshold_learned": True},
        {"reset": "soft", "input_gain": "1-beta", "threshold_learned": True, "decay_per": "channel"},
    ],
)
@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add"])
def test_options_of_the_neuron(which, options):
    """Both graphs, timestep by timestep or not, compute the network's logits."""
    net = fold(seasoned(which, **options))
    with torch.no_grad():
        for layer in net.spiking_layers():
            if options.get("threshold_learned"):
                layer.lif.q.add_(0.3)
        x = sequence(net, batch=3, seed=7)
        expected = net(x)
        assert torch.allclose(Unrolled(net)(x)[0], expected, atol=1e-12)
        assert torch.allclose(stepped(Stepping(net), x), expected, atol=1e-12)


def test_an_initial_potential():
    """All timesteps at once start with it; one timestep at a time is refused."""
    net = fold(seasoned("vggsnn", init_potential="measured", input_gain="1-beta"))
    with torch.no_grad():
        plain = net(sequence(net))
        for layer in net.spiking_layers():
            layer.lif.initial.fill_(2.0)
        assert torch.allclose(Unrolled(net)(sequence(net))[0], net(sequence(net)), atol=1e-12)
        assert not torch.allclose(net(sequence(net)), plain)
    with pytest.raises(ConfigError, match="found --init-potential measured"):
        Stepping(net)


def test_gradients_and_the_network_are_left_alone():
    """What is traced is a copy."""
    net = seasoned("mlp", batch=8, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    unrolled = Unrolled(net)
    assert not any(parameter.requires_grad for parameter in unrolled.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters() if parameter.is_leaf)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(type(layer.lif) is LIF for layer in net.spiking_layers())


class Moody(nn.Module):
    """Does what depends on what it sees, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else 2 * x


def test_what_cannot_be_followed_is_refused(tmp_path):
    """With the reason, and no file."""

    def unknown_layer(network, content):
        network.classifier = nn.Sequential(network.classifier, Moody())

    with pytest.raises(ConfigError, match=r"cannot trace MLP: .*ata-dependent"):
        exported(saved("mlp", tmp_path / "c.safetensors"), "onnx", tmp_path / "net", faulty=unknown_layer)
    assert not (tmp_path / "net").exists()


OPTIONS = [
    {},
    {"reset": "soft", "decay_per": "channel"},
    {"reset": "none", "threshold_learned": True},
    {"backend": Fused(as_bytes=True)},
]


def layer(backend="fused", channels=6, **settings):
    lif = LIF(decay=0.4, channels=channels, **settings)
    lif.backend = backend
    if "decay_per" in settings:
        lif.b.copy_(torch.linspace(-2, 2, channels))
    return lif.eval()


@pytest.mark.parametrize(("pool", "residual"), [(1, None), (2, None), (1, "floats"), (2, "bytes")])
@pytest.mark.parametrize(
    ("options", "dtype"),
    [slow_if("threshold_learned" in options, options, torch.float32) for options in OPTIONS] + [(OPTIONS[0], torch.bfloat16)],
)
@torch.inference_mode()
def test_timesteps_have_the_bits_of_the_sequence(options, pool, residual, dtype):
    """In any memory order of the current, and of the state."""
    lif, z = layer(**options), torch.randn(4, 2, 6, 8, 4).to(dtype)
    more = None if residual is None else (torch.rand(z.shape) < 0.3).to(dtype)
    if residual == "bytes" and "backend" in options:
        more = more.to(torch.uint8)
    neurons = QuickLIF(lif)
    if residual == "floats":  # channels innermost, as from convolutions
        z = z.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    whole = lif.normalise_and_fire(None, z, residual=more, pool=pool)
    for t in range(4):
        u = neurons.state.u
        kept = None if u is None else u.clone()
        spikes = neurons.normalise_and_fire(
            None, z[t : t + 1].clone(), residual=None if more is None else more[t : t + 1], pool=pool
        )
        assert torch.equal(spikes[0], whole[t])
        assert spikes.dtype == whole.dtype
        assert u is None or torch.equal(u, kept)
        if t == 1:
            neurons.state.u = neurons.state.u.contiguous()
    assert list(map(type, neurons.prepared.values())) != [type(None)]
    assert 0 < whole.float().mean() < 0.9 * (pool**2 if "backend" in options else 1)


@pytest.mark.parametrize("options", OPTIONS[:2])
@torch.inference_mode()
def test_currents_without_an_image(options):
    lif, current = layer(**options), torch.randn(5, 3, 6)
    neurons, whole = QuickLIF(lif), lif(current.clone())
    assert all(torch.equal(neurons(now[None])[0], spikes) for now, spikes in zip(current, whole, strict=True))
    assert 0 < whole.mean() < 1


@pytest.mark.parametrize(
    ("which", "precision"),
    [slow_if(which in ALIKE, which, "fp32") for which in ("vggsnn", "resnet19-add", "mlp", *FIELD)]
    + [slow_if(which != "vggsnn", which, "bf16") for which in ("vggsnn", "resnet19-add", "mlp", *FIELD)],
)
def test_every_layer_runs_in_the_kernel(which, precision):
    """With the logits of a graph of torch operations, whatever the batch."""
    net = deployed(seasoned(which, dtype=torch.float32))
    x = sequence(net, batch=2)
    steps, plain = quick(net), Stepping(net)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for batch in (2, 1):
            logits = stepped(steps, x[:, :batch])
            assert logits.isfinite().all()
            if precision == "fp32":  # in bf16, sums of another order may change a spike
                torch.testing.assert_close(logits, stepped(plain, x[:, :batch]), rtol=1e-5, atol=1e-5)
    layers = [module for module in steps.modules() if isinstance(module, QuickLIF)]
    assert len(layers) == len(net.spiking_layers())
    assert all(layer.prepared and None not in layer.prepared.values() for layer in layers)
    assert {type(module) for module in steps.modules() if isinstance(module, nn.Conv2d)} == {PrepackedConv2d}


@pytest.mark.parametrize("options", [{"input_gain": "1-beta"}, {"backend": "reference"}])
def test_other_layers_run_in_torch_operations(options):
    net = deployed(seasoned("vggsnn", dtype=torch.float32, **options))
    steps, plain, x = quick(net), Stepping(net), sequence(net, batch=2)
    with torch.inference_mode():
        torch.testing.assert_close(stepped(steps, x), stepped(plain, x), rtol=1e-5, atol=1e-5)
    assert all(set(module.prepared.values()) == {None} for module in steps.modules() if isinstance(module, QuickLIF))


def test_prepacked_convolutions_compute_as_plain_ones():
    """Also if the size or the type of the input changes; in types that oneDNN has not, they are plain."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    packed = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Conv2d(4, 4, 3, padding="same"))
    packed[0].load_state_dict(conv.state_dict())
    prepack(packed)
    assert [type(module) for module in packed] == [PrepackedConv2d, nn.Conv2d]
    for (batch, side), enabled in itertools.product([(1, 8), (3, 9), (1, 8)], [False, True]):
        x = torch.randint(0, 3, (batch, 4, side, side)).float()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found, expected = packed[0](x), conv(x)
        assert found.dtype == expected.dtype == (torch.bfloat16 if enabled else torch.float32)
        torch.testing.assert_close(found, expected)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(packed[0].double()(x), conv.double()(x))
