"""Losses of a few steps on fixed seeds: a refactoring must not move them.

They were written by `python -m tests.golden.test_losses`, in float64, where another machine's rounding does not flip a spike. torch draws
initial weights in float32 by the vector instructions of the processor: with other ones than AVX2 or AVX-512, which agree, their last
digits differ, and losses by up to 6e-9 of themselves.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lsgcli import models, registry
from lsgcli.training.optim import Optimizers, schedule
from tests import tiny

FILE = Path(__file__).with_name("losses.json")
CASES = {
    "vggsnn-lsg-ce": {"arch": "vggsnn", "method": "lsg", "loss": "ce"},
    "vggsnn-none-tet": {"arch": "vggsnn", "method": "none", "loss": "tet"},
    "resnet19-lsg-ce": {"arch": "resnet19", "method": "lsg", "loss": "ce"},
    "resnet19-sew-trainable": {"arch": "resnet19", "method": "trainable-decay", "loss": "ce", "residual": "sew"},
}


RTOL = 1e-9 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 1e-7


def losses(arch, method, loss, residual="add"):
    config = tiny.config(lr=0.05, decay_lr=0.01, loss=loss, epochs=5)
    torch.manual_seed(0)
    model = models.build(
        arch, method=method, num_classes=3, in_channels=2, input_size=16, width_multiplier=1 / 32, residual=residual
    ).double()
    optimizers, compute_loss = Optimizers(model, config), registry.get("loss", loss)
    split = tiny.split(6, "golden")
    x, y = torch.from_numpy(np.asarray(split.x)).double().transpose(0, 1), torch.from_numpy(split.y)
    found = []
    for index in range(5):
        value = compute_loss(model(x), y, config)
        value.backward()
        optimizers.step(schedule(index, 1, config))
        optimizers.zero_grad()
        found.append(value.item())
    return found


@pytest.mark.parametrize("name", CASES)
def test_losses_are_as_they_were(name):
    np.testing.assert_allclose(losses(**CASES[name]), json.loads(FILE.read_text())[name], rtol=RTOL)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(**case) for name, case in CASES.items()}, indent=1) + "\n")
