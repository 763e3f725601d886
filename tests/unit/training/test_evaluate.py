"""Evaluation by the folded network: the same answers and firing rates as the network itself gives, which stays as it is."""

import copy

import pytest
import torch

from lsgcli.system.device import Compute
from lsgcli.training.evaluate import evaluate
from lsgcli.training.loop import new_model
from tests import tiny

CPU = Compute(torch.device("cpu"))


@pytest.mark.parametrize("changes", [{"arch": "vggsnn"}, {"arch": "resnet19"}, {"arch": "resnet19", "residual": "sew"}])
def test_evaluation_is_that_of_the_network(changes):
    bundle = tiny.bundle()
    model = new_model(tiny.config(**changes), 3, 2)
    x = torch.from_numpy(bundle.test.x).float().transpose(0, 1)
    for _ in range(3):
        model(x)  # running statistics
    before = copy.deepcopy(model.state_dict())
    result = evaluate(model, bundle.test, bundle, CPU, batch_size=len(bundle.test), also=("firing_rate",))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    rates = {}
    for layer in model.eval().spiking_layers():
        layer.lif.register_forward_hook(
            lambda module, arguments, spikes, name=layer.name: rates.update({name: spikes.mean().item()})
        )
    with torch.no_grad():
        mean = model(x).mean(0)
    labels = torch.from_numpy(bundle.test.y)
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(mean, labels).item(), rel=1e-3)
    assert int(result.confusion.diagonal().sum()) == int((mean.argmax(1) == labels).sum())
    assert result.firing_rate == pytest.approx(rates, abs=1e-3)
    assert max(rates.values()) > 0.05
