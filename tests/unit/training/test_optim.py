"""Which optimiser moves what, with which decay and at which rate."""

import math
import subprocess
import sys

import pytest
import torch

from lsgcli import models
from lsgcli.training.optim import Optimizers, cosine
from tests import tiny


def build(**changes):
    torch.manual_seed(0)
    model = models.build("vggsnn", input_size=16, width_multiplier=1 / 32, **changes)
    return model, Optimizers(model, tiny.config(weight_decay=0.1, lr=0.5, decay_lr=0.02))


def test_decays_have_an_adam_of_their_own_without_weight_decay():
    model, optimizers = build()
    weights, decays = optimizers.all
    found = {id(p) for group in decays.param_groups for p in group["params"]}
    assert found == {id(layer.lif.b) for layer in model.spiking_layers()}
    assert isinstance(decays, torch.optim.AdamW)
    assert all(group["weight_decay"] == 0 and group["lr"] == 0.02 for group in decays.param_groups)
    assert not found & {id(p) for group in weights.param_groups for p in group["params"]}


def test_weight_decay_is_for_weights_alone():
    model, optimizers = build()
    decayed, plain = optimizers.all[0].param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 2)[-2] for p in decayed["params"]} == {"conv", "classifier"}
    assert all(names[id(p)].endswith((".norm.weight", ".bias")) for p in plain["params"])
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert sum(len(group["params"]) for o in optimizers.all for group in o.param_groups) == len(names)


def test_fixed_decay_needs_no_second_optimiser():
    assert len(build(method="none")[1].all) == 1


def test_adam_moves_a_decay_by_its_learning_rate():
    model, optimizers = build()
    before = model.features[0].lif.b.item()
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e-4)
    optimizers.step(0.5)
    assert model.features[0].lif.b.item() == pytest.approx(before - 0.02 * 0.5, rel=1e-3)


def test_cosine():
    assert cosine(0, 100) == 1.0
    assert cosine(50, 100) == pytest.approx(0.5)
    assert cosine(25, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert 0 < cosine(99, 100) < 1e-3


def test_rate_scales_the_configured_learning_rate_each_time():
    _, optimizers = build()
    for rate in (1.0, 0.5, 0.25):
        optimizers.step(rate)
        assert optimizers.all[0].param_groups[0]["lr"] == pytest.approx(0.5 * rate)
        assert optimizers.all[1].param_groups[0]["lr"] == pytest.approx(0.02 * rate)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_torchs_own_classes_and_a_skipped_step_changes_nothing(name):
    ours, theirs = torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)
    theirs.load_state_dict(ours.state_dict())
    optimizers = Optimizers(ours, tiny.config(optimizer=name, weight_decay=0.1, lr=0.5, momentum=0.8))
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    expected = torch.optim.SGD(groups, 0.25, 0.8) if name == "sgd" else torch.optim.AdamW(groups, 0.25)
    for skip in (False, False, True, False):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        optimizers.step(0.5, torch.tensor(skip))
        if not skip:
            expected.step()
        torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


def test_training_does_not_load_torchs_compiler():
    code = """
import sys, torch
from lsgcli import models
from lsgcli.config import RunConfig
from lsgcli.compute import set_up
from lsgcli.run import check
from lsgcli.training.optim import Optimizers
set_up(RunConfig())
check(RunConfig())
model = models.build("vggsnn", input_size=16, width_multiplier=1 / 32)
optimizers = Optimizers(model, RunConfig())
model(torch.rand(2, 2, 2, 16, 16)).sum().backward()
optimizers.step(1.0)
optimizers.zero_grad()
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
