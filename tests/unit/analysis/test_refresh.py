"""Re-estimated running statistics, against those of numpy, and ``lsg eval --refresh-norm``."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import running
from lsgcli.data.batches import batches
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.system.device import Compute
from tests import tiny


def network(**changes):
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
    model, data = network(norm=norm), tiny.bundle()
    stream = list(batches(data, data.train, 8, seed=1, shuffle=True, drop_last=True))[:4]
    conv, found = model.features[0].current.conv, model.features[0].current.norm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert running.refresh(model, stream, Compute(torch.device("cpu"))) == 4
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
    model, data = network(norm="mpbn"), tiny.bundle()
    stream = list(batches(data, data.train, 8, drop_last=True))
    running.refresh(model, stream, Compute(torch.device("cpu")))
    assert all(module.membrane.running_mean.any() for module in model.modules() if isinstance(module, LIF))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(x.flatten(0, 1))

    mine, theirs = Plain().eval(), Plain()
    running.refresh(mine, stream, Compute(torch.device("cpu")))
    torch.optim.swa_utils.update_bn([batch.x for batch in stream], theirs)
    torch.testing.assert_close(mine.norm.running_var, theirs.norm.running_var)
    assert mine.norm.momentum == 0.1


def test_without_normalisation():
    with pytest.raises(ConfigError, match="found a network without normalisation"):
        running.refresh(nn.Linear(2, 2), [], Compute(torch.device("cpu")))
