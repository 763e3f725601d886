"""Networks as graphs: of LIF neurons alone."""

import pytest
import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping, Unrolled
from lsgcli.neurons import LIF
from tests.exports import exported, saved
from tests.unit.models.helpers import seasoned


class SoftReset(LIF):
    """Subtracts the threshold instead of starting again from 0."""

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        u, spikes = torch.zeros_like(current[0]), []
        for now in current:
            u = self.beta * u + now
            spikes.append((u >= self.threshold).to(u.dtype))
            u = u - self.threshold * spikes[-1]
        return torch.stack(spikes)


@pytest.mark.parametrize("graph", [Unrolled, Stepping])
def test_other_neurons_are_refused(graph):
    """A graph would run them as LIF."""
    net = seasoned("mlp", batch=8, dtype=torch.float32)
    net.hidden[1].lif = SoftReset()
    with pytest.raises(ConfigError, match="hidden2: found neurons of class SoftReset, expected LIF"):
        graph(net)


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


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_what_cannot_be_followed_is_refused(form, tmp_path):
    """With the reason, and no file."""

    def unknown_layer(network, content):
        network.classifier = nn.Sequential(network.classifier, Moody())

    with pytest.raises(ConfigError, match=r"cannot trace MLP: .*ata-dependent"):
        exported(saved("mlp", tmp_path / "c.safetensors"), form, tmp_path / "net", faulty=unknown_layer)
    assert not (tmp_path / "net").exists()
