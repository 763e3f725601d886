"""Which optimiser moves what, with which decay and at which rate; what is frozen keeps its bits."""

import math

import pytest
import torch

from lsgcli import models
from lsgcli.runs.flow import full_flow
from lsgcli.store import checkpoint
from lsgcli.training.initialise import new_model
from lsgcli.training.optim import Optimizers, schedule
from tests import tiny
from tests.unit.training.test_loop import CPU, run


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


PATTERNS = "conv1,features.2,features.[45].current.norm,*.7.lif.b"


@pytest.mark.parametrize("changes", [{"optimizer": "adamw", "ema": 0.5}, {"method": "measured-sigma"}])
def test_frozen_tensors_keep_their_bits(tmp_path, changes):
    """conv1 is a layer, features.2 the module of the third, then two norms and the neurons of one layer, by their only parameter."""
    prefixes = ("features.0.", "features.2.", "features.4.current.norm.", "features.5.current.norm.", "features.7.lif.")
    first = tmp_path / "first" / "last.safetensors"
    run(first.parent, tiny.config(**changes, epochs=1), tiny.bundle())
    start = checkpoint.read(first).weights
    config = tiny.config(
        epochs=1, freeze=PATTERNS, init_from=str(first), weight_decay=0.1, weight_decay_on="all", clip_grad=1.0, **changes
    )
    run(tmp_path / "run", config, tiny.bundle())
    end = checkpoint.read(tmp_path / "run" / "last.safetensors").weights
    frozen = {name for name in start if name.startswith(prefixes)}
    assert sum("running" in name for name in frozen) == 8
    assert {name for name in start if torch.equal(start[name], end[name])} == frozen


def test_gradient_flow_of_a_checkpoint_is_that_of_its_run():
    """A copy without frozen parts is frozen first, so that its norms do not use statistics of the batch."""
    config, bundle = tiny.config(freeze="conv1,conv3"), tiny.bundle()
    trained = new_model(config, 3, 2)
    loaded = new_model(config.replace(freeze=None), 3, 2)
    for model in (trained, loaded):  # statistics other than those of the batch
        model.features[0].current.norm.running_var.fill_(0.5)
    flows = [full_flow(model, bundle, config, CPU, 1)["layers"] for model in (trained, loaded)]
    assert flows[0] == flows[1]
    assert not any(layer["grad_norm"] is None for layer in flows[0])


def test_what_is_frozen_costs_no_state():
    model = new_model(tiny.config(freeze="features"), 3, 2)
    assert set(Optimizers(model, tiny.config()).names.values()) == {"classifier.weight", "classifier.bias"}
    model.eval().train()
    assert model.training
    assert not any(module.training for module in model.features.modules())
