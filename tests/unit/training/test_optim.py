"""Which optimiser moves what, with which decay and at which rate."""

import math
import subprocess
import sys

import pytest
import torch

from lsgcli import models
from lsgcli.training.optim import SGD, Adam, Optimizers, cosine
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
    assert isinstance(decays, Adam)
    assert all(group["weight_decay"] == 0 and group["lr"] == 0.02 for group in decays.param_groups)
    assert not found & {id(p) for group in weights.param_groups for p in group["params"]}


def test_weight_decay_is_for_weights_alone():
    model, optimizers = build()
    decayed, plain = optimizers.weights.param_groups
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
        assert optimizers.weights.param_groups[0]["lr"] == pytest.approx(0.5 * rate)
        assert optimizers.all[1].param_groups[0]["lr"] == pytest.approx(0.02 * rate)


RULES = {
    "sgd": (lambda g: SGD(g, 0.1, 0.9), lambda g: torch.optim.SGD(g, 0.1, 0.9, fused=True)),
    "sgd without momentum": (lambda g: SGD(g, 0.1, 0.0), lambda g: torch.optim.SGD(g, 0.1, 0.0, fused=True)),
    "adamw": (lambda g: Adam(g, 0.01), lambda g: torch.optim.AdamW(g, 0.01, fused=True)),
}


@pytest.mark.parametrize("name", RULES)
def test_updates_are_those_of_torchs_classes_to_the_bit(name):
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(n, 3, generator=generator)) for n in (2, 5)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    make, reference = RULES[name]
    rule = make([{"params": [ours[0]], "weight_decay": 0.1}, {"params": [ours[1]], "weight_decay": 0.0}])
    expected = reference([{"params": [theirs[0]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0.0}])
    for step in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        skip = torch.tensor(float(step == 2))
        expected.found_inf = skip
        rule.step(1.0, skip)
        expected.step()
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True)), step


def test_a_step_does_not_load_torchs_compiler():
    code = """
import sys, torch
from lsgcli import models
from lsgcli.config import RunConfig
from lsgcli.training.optim import Optimizers
model = models.build("vggsnn", input_size=16, width_multiplier=1 / 32)
optimizers = Optimizers(model, RunConfig())
model(torch.rand(2, 2, 2, 16, 16)).sum().backward()
optimizers.step(1.0)
optimizers.zero_grad()
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
