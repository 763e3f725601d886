"""Accuracy with running statistics beside that with batch statistics."""

import logging

import pytest
import torch

from lsgcli.analysis import running
from lsgcli.data.batches import batches
from lsgcli.models.fold import fold
from lsgcli.neurons import TdBatchNorm2d
from lsgcli.system.device import Compute
from lsgcli.training.loop import new_model
from lsgcli.training.optim import Optimizers
from lsgcli.training.step import gradients
from tests import tiny

CPU = Compute(torch.device("cpu"))


def stream(bundle, size=16):
    return batches(bundle, bundle.train, size, shuffle=True, drop_last=True)


@pytest.fixture
def trained():
    """A network after some steps, with dropout, which none of both accuracies has."""
    bundle, config = tiny.bundle(), tiny.config(batch_size=16, dropout=0.5)
    model = new_model(config, 3, 2)
    optimizers = Optimizers(model, config)
    for _ in range(6):
        for batch in stream(bundle):
            gradients(model.train(), batch, config, CPU)
            optimizers.step(1.0)
            optimizers.zero_grad()
    return model, bundle


def test_both_accuracies(trained):
    """Of the network in evaluation; with batch statistics that are computed here, in the place of the running ones."""
    model, bundle = trained
    for module in model.modules():
        if isinstance(module, TdBatchNorm2d):
            module.running_mean.add_(1.0)
    right = {"evaluation": 0, "batch": 0}

    def with_batch_statistics(module, arguments):
        x = arguments[0].flatten(0, 1)
        module.running_mean, module.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)

    model.eval()
    with torch.no_grad():
        for batch in stream(bundle):
            right["evaluation"] += int((model(batch.x).mean(0).argmax(1) == batch.y).sum())
        broken = {name: x.clone() for name, x in model.state_dict().items()}
        found = running.accuracies(model.train(), stream(bundle), CPU)
        assert all(torch.equal(x, broken[name]) for name, x in model.state_dict().items())
        assert model.training
        model.eval()
        for layer in model.spiking_layers():
            layer.synapse.register_forward_hook(
                lambda module, _, z, norm=layer.norm: with_batch_statistics(norm, (z.unflatten(0, (3, -1)),))
            )
        for batch in stream(bundle):
            right["batch"] += int((model(batch.x).mean(0).argmax(1) == batch.y).sum())
    assert found.batch == right["batch"] / 48
    assert found.evaluation == right["evaluation"] / 48
    assert found.batch - found.evaluation > 0.2


def test_a_large_gap_is_a_warning(trained, caplog):
    model, bundle = trained
    caplog.set_level(logging.WARNING, "lsg")
    running.check(model, bundle, CPU, 16, accuracy=0.3)
    assert caplog.messages == []
    for module in model.modules():
        if isinstance(module, TdBatchNorm2d):
            module.running_mean.add_(1.0)
    running.check(model, bundle, CPU, 16, accuracy=0.9)
    assert caplog.messages == []  # too accurate for a gap
    running.check(model, bundle, CPU, 4, accuracy=0.3)
    assert caplog.messages == []  # batches too small
    running.check(model, bundle, CPU, 16, accuracy=0.3)
    assert len(caplog.messages) == 1
    assert "of test samples correctly, but" in caplog.text
    assert running.accuracies(fold(model.eval()), stream(bundle), CPU) is None
