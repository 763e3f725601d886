"""Which optimiser moves what, with which decay and at which rate."""

import math

import pytest
import torch

from lsgcli import models
from lsgcli.training.optim import Optimizers, schedule
from tests import tiny


def build(**changes):
    torch.manual_seed(0)
    model = models.build("vggsnn", input_size=16, width_multiplier=1 / 32, **changes)
    return model, Optimizers(model, tiny.config(weight_decay=0.1, lr=0.5, decay_lr=0.02))


@pytest.mark.parametrize("decay_per", ["layer", "channel"])
def test_weight_decay_is_for_weights_alone(decay_per):
    """Decays, whatever their shape, have an Adam of their own without."""
    model, optimizers = build(decay_per=decay_per)
    (decayed, plain), (decays,) = (optimizer.param_groups for optimizer in optimizers.all)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 2)[-2] for p in decayed["params"]} == {"conv", "classifier"}
    assert all(names[id(p)].endswith((".norm.weight", ".bias")) for p in plain["params"])
    assert {id(p) for p in decays["params"]} == {id(layer.lif.b) for layer in model.spiking_layers()}
    assert sum(len(group["params"]) for group in (decayed, plain, decays)) == len(names)
    assert isinstance(optimizers.all[1], torch.optim.AdamW)
    assert [group["weight_decay"] for group in (decayed, plain, decays)] == [0.1, 0.0, 0.0]
    on_all = Optimizers(model, tiny.config(weight_decay=0.1, weight_decay_on="all", optimizer="adamw")).all
    assert [group["weight_decay"] for optimizer in on_all for group in optimizer.param_groups] == [0.1, 0.1, 0.0]
    assert len(build(method="fixed")[1].all) == 1


def test_ar_lif_is_trained_with_the_weights():
    """Of its layers, only b has an Adam of its own; a and c decay where biases do."""
    model, optimizers = build(neuron="ar-lif")
    weights, decays = optimizers.all
    lifs = [layer.lif for layer in model.spiking_layers()]
    assert {id(p) for p in decays.param_groups[0]["params"]} == {id(lif.b) for lif in lifs}
    assert {id(p) for lif in lifs for p in (lif.a, lif.c)} < {id(p) for p in weights.param_groups[1]["params"]}
    assert len(build(neuron="ar-lif", method="fixed")[1].all) == 1


def test_adam_moves_a_decay_by_its_learning_rate():
    model, optimizers = build()
    before = model.features[0].lif.b.item()
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e-4)
    optimizers.step(0.5)
    assert model.features[0].lif.b.item() == pytest.approx(before - 0.02 * 0.5, rel=1e-3)


STEPS, HALF = {"schedule": "step", "step_epochs": 2, "step_factor": 0.1}, math.sqrt(0.125)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 4}, [1, 0.5 + HALF, 0.5, 0.5 - HALF]),
        ({"epochs": 5, "lr_floor": 0.1, "cooldown_epochs": 2}, [1, 0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.25, 0.1, 0.1, 0.1]),
        ({"epochs": 4, "warmup_epochs": 2, "warmup_start": 0.2}, [0.2, 0.6, 0.5, 0.5 - HALF]),  # a part of the cosine
        ({"epochs": 5, **STEPS}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"epochs": 5, "warmup_epochs": 1, "warmup_start": 0.0, **STEPS}, [0, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
    ids=str,
)
def test_schedules(settings, expected):
    """The factor of the learning rate at the start of each epoch, and at the last step."""
    config = tiny.config(**settings)
    steps = (*range(0, config.epochs * 4, 4), config.epochs * 4 - 1)
    assert [schedule(step, 4, config) for step in steps][: len(expected)] == pytest.approx(expected)


def test_cosine_in_steps():
    expected = [0.5 * (1 + math.cos(math.pi * step / 21)) for step in range(21)]
    assert [schedule(step, 7, tiny.config(epochs=3)) for step in range(21)] == expected


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


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_skipped_first_step_leaves_no_trace(name):
    """As when the first gradients overflow in fp16: the next step is that of new optimisers."""
    config, results = tiny.config(optimizer=name), []
    for skipped in (False, True):
        torch.manual_seed(0)
        net = torch.nn.Linear(64, 64)
        optimizers = Optimizers(net, config)
        if skipped:
            for p in net.parameters():
                p.grad = torch.full_like(p, torch.nan)
            del p
            freed = [torch.full((64, 64), torch.nan) for _ in range(50)]  # what uninitialised memory holds
            del freed
            optimizers.step(1.0, skip=torch.tensor(True))
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizers.step(1.0, skip=torch.tensor(False))
        results.append([p.detach() for p in net.parameters()])
    assert all(map(torch.equal, *results))
