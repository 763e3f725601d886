"""Accuracy with running statistics beside that with batch statistics, and their re-estimation, against that of numpy."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import running
from lsgcli.data.batches import batches
from lsgcli.errors import ConfigError
from lsgcli.models.fold import fold
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.system.device import Compute
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients
from lsgcli.training.optim import Optimizers
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
    assert found.batch - found.evaluation > 0.2  # at least .43 with seeds 0 to 19


def test_a_large_gap_is_a_warning(trained, caplog):
    model, bundle = trained
    caplog.set_level(logging.WARNING, "lsg")
    running.refresh(model, stream(bundle), CPU)
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


def spoilt(**changes):
    torch.manual_seed(0)
    settings = {"T": 3, "num_classes": 3, "in_channels": 2, "input_size": 16, "width_multiplier": 1 / 16, **changes}
    model = models.build("vggsnn", **settings).eval()
    for name, value in model.named_buffers():  # of other data
        if "running" in name or "num_batches" in name:
            value.fill_(7)
    return model


@pytest.mark.parametrize("norm", ["tdbn", "bn", "bn-step", "tebn"])
def test_against_numpy(norm):
    """Mean and unbiased variance of the first layer's currents, averaged over batches; of each timestep for bn-step."""
    model, data = spoilt(norm=norm), tiny.bundle()
    stream = list(batches(data, data.train, 8, seed=1, shuffle=True, drop_last=True))[:4]
    conv, found = model.features[0].current.conv, model.features[0].current.norm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert running.refresh(model, stream, CPU) == 4
    moments = []
    for batch in stream:
        z = F.conv2d(batch.x.flatten(0, 1).double(), conv.weight.double(), padding=1).detach().numpy()
        parts = np.split(z, 3) if norm == "bn-step" else [z]
        moments += [(part.mean((0, 2, 3)), part.var((0, 2, 3), ddof=1)) for part in parts]
    mean, variance = np.mean(moments, 0)
    np.testing.assert_allclose(found.running_mean.numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.running_var.numpy(), variance, rtol=1e-4)
    assert int(found.num_batches_tracked) == len(moments)
    for name, value in model.state_dict().items():  # everything else stays
        assert torch.equal(value, before[name]) == ("running" not in name and "num_batches" not in name)
    assert not any(module.training for module in model.modules())
    assert {module.momentum for module in model.modules() if hasattr(module, "momentum")} == {0.1}


def test_membrane_norm_and_norms_of_torch():
    """MPBN's statistics of u are refreshed too; a plain BatchNorm2d gives what torch's update_bn gives."""
    model, data = spoilt(norm="mpbn"), tiny.bundle()
    stream = list(batches(data, data.train, 8, drop_last=True))
    running.refresh(model, stream, CPU)
    assert all(module.membrane.running_mean.any() for module in model.modules() if isinstance(module, LIF))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(x.flatten(0, 1))

    mine, theirs = Plain().eval(), Plain()
    running.refresh(mine, stream, CPU)
    torch.optim.swa_utils.update_bn([batch.x for batch in stream], theirs)
    torch.testing.assert_close(mine.norm.running_var, theirs.norm.running_var)
    assert mine.norm.momentum == 0.1


def test_without_normalisation():
    with pytest.raises(ConfigError, match="found a network without normalisation"):
        running.refresh(nn.Linear(2, 2), [], CPU)
