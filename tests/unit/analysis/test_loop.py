"""What the loop of a watched training does between its steps: schedules, weight decay, and weights that are overwritten."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR, StepLR

import lsgcli as lsg
from lsgcli.analysis.watch.seen import Seen
from lsgcli.runs.script import record_of
from tests.unit.analysis.test_watch import made


def findings(optimiser_of, after_step=lambda step, net: None, **options):
    """Findings by rule on a training with labels at random."""
    net, _, x, y = made()
    optimizer = optimiser_of(net.parameters(), **options)
    with lsg.watch(net, optimizer, quiet=True) as record:
        for step in range(60):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step(step, net)
    return {one["rule"]: one for one in record["findings"]}


def made_schedule(optimizer, kind):
    if kind == "falls":
        return StepLR(optimizer, 4, gamma=0.1)
    return LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / 400))


@pytest.mark.parametrize(
    ("kind", "every", "words"), [("falls", 1, "once an epoch"), ("rises", 50, "at each step"), ("rises", 1, "")]
)
def test_a_schedule_that_keeps_the_learning_rate_low(kind, every, words):
    """A warm-up that rises at each step may be longer than what is watched."""
    net, _, x, y = made()
    optimizer = SGD(net.parameters(), 0.01)
    schedule = made_schedule(optimizer, kind)
    with lsg.watch(net, optimizer, quiet=True) as record:
        for step in range(60):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % every == 0:
                schedule.step()
    found = [one for one in record["findings"] if one["measure"] == "share of the learning rate"]
    assert len(found) == bool(words)
    for one in found:
        assert words in one["remedy"]["text"]
        assert "schedule.step()" in Path(__file__).read_text().splitlines()[one["where"]["line"] - 1]


@pytest.mark.parametrize(
    ("optimiser", "options", "value"),
    [
        (AdamW, {"lr": 3e-3, "weight_decay": 30}, math.log(2) / (3e-3 * 30)),
        (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.04}, math.log(2) / (0.1 * 0.04 / 0.1)),
        (AdamW, {"lr": 3e-3, "weight_decay": 0.01}, None),
        (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}, None),
    ],
)
def test_weight_decay_halves_the_weights(optimiser, options, value):
    found = findings(optimiser, **options).get("weight-decay")
    assert (None if found is None else found["value"]) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize("undone", [True, False])
def test_weights_that_are_overwritten(undone):
    kept = {}

    def restore(step, net):
        kept.update({} if kept else {name: value.clone() for name, value in net.state_dict().items()})
        if undone and step % 5 == 4:
            net.load_state_dict(kept)

    assert ("overwritten" in findings(SGD, restore, lr=0.1)) == undone


class Growing(nn.Module):
    """Potentials with a decay of 1 - dt / tau = -99."""

    def forward(self, x, v):
        return -99 * v + x


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.cell = made()[0], Growing()

    def forward(self, x):
        out = self.net(x)
        v = out
        for _ in range(30):
            v = self.cell(out, v)
        return v


def test_outputs_that_are_not_finite_before_the_first_step():
    torch.manual_seed(0)
    net, x, y = Recurrent(), torch.randn(16, 5), torch.arange(16) % 3
    optimizer = SGD(net.parameters(), 0.1)
    with lsg.watch(net, optimizer, quiet=True) as record:
        for _ in range(6):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = record["findings"][0]
    assert found["rule"] == "not-finite"
    assert "cell" in found["remedy"]["text"]


@pytest.mark.parametrize(("networks", "evaluated", "named"), [(1, 2, True), (1, 16, False), (2, 2, False)])
def test_timesteps_in_evaluation(networks, evaluated, named):
    """Parts of a network that are called by themselves have fewer neurons."""
    seen = Seen(steps=100, classes=10, evaluated=[(100, 0.6, 300)], networks=["Net", "Head"][:networks])
    seen.accuracy = [(step, 0.95, 50) for step in range(100)]
    seen.runs.update({True: 3, False: 2})
    seen.fires.update({True: 48, False: 2 * evaluated})
    assert (
        "calls of neurons in evaluation over those in training" in [one["measure"] for one in record_of(seen)["findings"]]
    ) == named
