"""``lsg bench``: its rows and the floor."""

import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.config.run import RunConfig
from lsgcli.neurons import LIF
from lsgcli.sweeps import bench
from lsgcli.system.device import Compute, Convolutions
from tests.unit.models.helpers import sequence, small


def test_rows():
    seconds = {"lsg fp32": [0.2, 0.4, 0.3], "floor fp32": [0.1, 0.2, 0.15]}
    ours, floor = bench.rows_of(seconds, "case", 2)
    assert (ours["samples_per_s"], ours["ms"]) == (pytest.approx(2 / 0.3), pytest.approx(300))
    assert (ours["time_over_lsg"], floor["time_over_lsg"]) == (None, {"ratio": 0.5, "low": 0.5, "high": 0.5})


@pytest.mark.parametrize("which", ["vggsnn", "resnet19-sew", "qkformer"])
def test_the_floor_has_neither_neurons_nor_normalisation(which):
    net = small(which)
    bench.strip(net)
    x = sequence(net)
    # The attention of QKFormer multiplies.
    assert torch.allclose(net(2 * x) - net(0 * x), 2 * (net(x) - net(0 * x))) == (which != "qkformer")
    net(x).sum().backward()
    fires = {p for module in net.modules() if isinstance(module, LIF) for p in module.parameters()}
    assert all(parameter.grad is None for parameter in fires)
    assert all(p.grad is not None for module in net.modules() if isinstance(module, nn.Conv2d) for p in module.parameters())


def test_no_gradient_of_the_floor_vanishes(monkeypatch):
    """Without normalisation and neurons, a network would soon fit its batch, and processors take long for subnormal numbers."""
    net = models.build("resnet19", T=1, input_size=16, width_multiplier=0.25)
    monkeypatch.setattr(bench.models, "build", lambda *args, **sizes: net)
    config = RunConfig(arch="resnet19", T=1, size=16, width_multiplier=0.25)
    step = bench.prepared("floor", "train", 2, config, Compute(torch.device("cpu")))
    smallest = []
    net.classifier.register_full_backward_hook(lambda module, into, out: smallest.append(out[0].abs().amax(-1).min()))
    for _ in range(8):
        step()
    assert min(smallest) > 1e-3


@pytest.mark.parametrize("name", bench.CONTENDERS)
@pytest.mark.parametrize("mode", bench.MODES)
def test_steps(name, mode):
    config = RunConfig(arch="vggsnn", T=2, size=16, width_multiplier=1 / 32)
    step = bench.prepared(
        name, mode, 2, config, Compute(torch.device("cpu"), convolutions=Convolutions(bench.CONTENDERS[name]))
    )
    step()
    step()
    assert models.build("vggsnn", input_size=16).spec.in_channels == 2
