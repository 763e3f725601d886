"""Networks as graphs: of LIF neurons alone."""

import pytest
import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping, Unrolled
from lsgcli.models.fold import fold
from lsgcli.neurons import LIF
from tests.exports import exported, saved
from tests.unit.models.helpers import seasoned, sequence, stepped


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
