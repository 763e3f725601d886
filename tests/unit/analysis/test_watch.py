"""A watched training: measures against hand-made numbers, the same bits, and hooks that are gone afterwards."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lsgcli as lsg
from lsgcli.analysis.watch.seen import Neurons as Layer
from lsgcli.analysis.watch.seen import Outputs, Seen
from lsgcli.analysis.watch.tensors import agreement, layouts, memory
from lsgcli.analysis.watch.watch import StopWatching, Watch, is_due
from lsgcli.runs.script import record_of


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.25).float() / 0.5


class Late(Spike):
    @staticmethod
    def forward(ctx, u):
        return Spike.forward(ctx, u - 2.0)


class Neurons(nn.Module):
    threshold = 1.0

    def forward(self, u):
        return Spike.apply(u - self.threshold)


class AtRandom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        return (u > 1 + 0.1 * torch.rand_like(u)).float()

    @staticmethod
    def backward(ctx, grad):
        return grad


class RandomNeurons(nn.Module):
    def forward(self, u):
        return AtRandom.apply(u)


def train(net, optimizer, steps, x, y, loss_of=lambda out, y: F.cross_entropy(out, y), after_backward=lambda: None):
    for _ in range(steps):
        loss = loss_of(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        after_backward()
        optimizer.step()


def made(neurons=Neurons):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 40), neurons(), nn.Linear(40, 3))
    return net, torch.optim.SGD(net.parameters(), 0.1), torch.randn(16, 5), torch.arange(16) % 3


def test_measures_of_a_step():
    """Firing rate, potentials, coverage, gradients and the accuracy of a step, computed here by hand."""
    net, optimizer, x, y = made()
    weight, bias = net[0].weight.detach().double(), net[0].bias.detach().double()
    u = x.double() @ weight.T + bias
    with torch.no_grad():
        spikes = (u > 1).double()
        logits = spikes @ net[2].weight.double().T + net[2].bias.double()
        error = (logits.softmax(1) - F.one_hot(y, 3)) / 16
        du = error @ net[2].weight.double() * ((u - 1).abs() < 0.25) / 0.5
        norms = (du.T @ x.double()).norm().item(), (error.T @ spikes).norm().item()
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(net, optimizer, 1, x, y)
    (layer,) = watch.seen.records
    assert layer["name"] == "1"
    assert layer["firing_rate"] == pytest.approx(spikes.mean().item())
    assert layer["u_mean"] == pytest.approx(u.mean().item(), abs=1e-5)
    assert layer["u_std"] == pytest.approx(u.std(correction=0).item(), rel=1e-4)
    assert layer["alpha"] == pytest.approx(0.5, rel=0.05)  # from the potentials of this step
    assert layer["coverage"] == pytest.approx(((u - 1).abs() < 0.25).double().mean().item(), abs=5e-3)
    assert layer["grad_norm"] == pytest.approx(norms[0], rel=1e-4)
    assert layer["grad_zero"] == pytest.approx((du == 0).double().mean().item())
    assert watch.seen.spreads == {"1": pytest.approx(weight.std().item() * 5**0.5)}
    assert watch.seen.accuracy == [(0, pytest.approx((logits.argmax(1) == y).double().mean().item()), 16)]
    outer = next(p for p in watch.seen.parameters.values() if p.name == "2.weight")
    assert outer.gradients == [pytest.approx(norms[1], rel=1e-4)]


@pytest.mark.parametrize("neurons", [Neurons, RandomNeurons])
def test_bits_are_the_same_and_hooks_are_gone(neurons):
    originals = nn.Module.__init__, torch.autograd.Function.__dict__["apply"], F.cross_entropy, torch.autograd.backward
    plain, *rest = made(neurons)
    train(plain, *rest[:1], 20, *rest[1:])
    expected = torch.rand(1)
    watched, *rest = made(neurons)
    with lsg.watch(watched, rest[0], quiet=True) as record:
        train(watched, *rest[:1], 20, *rest[1:])
    assert torch.equal(expected, torch.rand(1))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert (
        nn.Module.__init__,
        torch.autograd.Function.__dict__["apply"],
        F.cross_entropy,
        torch.autograd.backward,
    ) == originals
    assert not torch.nn.modules.module._global_forward_hooks
    assert record["schema"] == "lsg.diagnosis/1"
    assert record["steps"] == 20


def _sigmoid(u, threshold):
    h = torch.sigmoid(4 * (u - threshold))
    return (u > threshold).float() + h - h.detach()


@pytest.mark.parametrize(
    ("fire", "threshold"),
    [(lambda u: Spike.apply(u - 2.0), 1), (lambda u: Late.apply(u), 2), (lambda u: _sigmoid(u, 2.0), 2)],
)
def test_neurons_that_are_functions(fire, threshold):
    """Of u - v_th, whose v_th is unknown and taken as 1; of u; and a comparison whose gradient is added."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(5, 40), nn.Linear(40, 3)

        def forward(self, x):
            return self.outer(fire(9 * self.inner(x)))

    torch.manual_seed(0)
    net = Net()
    x, y = torch.randn(16, 5), torch.arange(16) % 3
    u = 9 * net.inner(x).detach()
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(net, torch.optim.SGD(net.parameters(), 0.1), 1, x, y)
    (layer,) = watch.seen.records
    assert layer["name"].startswith("inner, line")
    assert layer["firing_rate"] == pytest.approx((u > 2).float().mean().item())
    (seen,) = watch.seen.layers.values()
    assert seen.threshold == pytest.approx(threshold, rel=1e-3)
    assert layer["u_mean"] == pytest.approx(((u - 2) / threshold + 1).mean().item(), abs=1e-2)
    assert seen.du


@pytest.mark.parametrize("detached", [False, True])
def test_a_comparison_without_surrogate_in_a_network_whose_last_potentials_are_read(detached):
    """Its line also compares the last potentials, which have a gradient; where only a detach() is wrong, its line passes one elsewhere."""

    def fire(u):
        return _sigmoid(u, 1.0) if detached else (u > 1.0).float()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.middle, self.outer = nn.Linear(5, 40), nn.Linear(40, 40), nn.Linear(40, 3)

        def forward(self, x):
            spikes = fire(9 * self.inner(x))
            u = self.outer(fire(9 * self.middle(spikes.detach() if detached else spikes)))
            return u + 0 * fire(u).detach()

    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 3, torch.randn(16, 5), torch.arange(16) % 3)
    assert ("no-surrogate" in {one["rule"] for one in record["findings"]}) != detached


def test_a_network_without_modules():
    torch.manual_seed(0)
    inner, outer = (0.5 * torch.randn(5, 40)).requires_grad_(), torch.randn(40, 3, requires_grad=True)
    x, y = torch.randn(16, 5), torch.arange(16) % 3
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(lambda x: Spike.apply(x @ inner - 9) @ outer, torch.optim.SGD([inner, outer], 0.1), 1, x, y)
    (layer,) = watch.seen.records
    assert layer["firing_rate"] == 0
    assert [parameter.optimised for parameter in watch.seen.parameters.values()] == [True, True]


def test_a_layer_of_a_wrapped_network_is_not_shared():
    snntorch = pytest.importorskip("snntorch")
    net = nn.DataParallel(nn.Sequential(nn.Linear(5, 40), snntorch.Leaky(beta=0.5, init_hidden=True), nn.Linear(40, 3)))
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(net, torch.optim.SGD(net.parameters(), 0.1), 1, torch.randn(16, 5), torch.arange(16) % 3)
    assert not watch.seen.shared
    assert [layer["name"] for layer in watch.seen.records] == ["1"]


def test_an_error_in_the_loop_is_explained_and_raised(capsys):
    net, optimizer, x, y = made()
    with pytest.raises(RuntimeError, match="does not require grad"), lsg.watch(net, optimizer) as record:
        F.cross_entropy(net(x).detach(), y).backward()
    assert record["findings"][0]["rule"] == "no-graph"
    assert record["findings"][0]["where"]["file"] == __file__
    assert "no-graph" in capsys.readouterr().err


class Kept(nn.Module):
    state = torch.zeros(())

    def forward(self, x):
        self.state = 0.5 * self.state + x
        return self.state.detach() + x


def _changes(net, x, y):
    u = net(x).sigmoid()
    u *= 0.5
    u.sum().backward()


def _other_sizes(net, x, y):
    kept = Kept()
    for batch in (x, x[:5]):
        F.cross_entropy(net(kept(batch)), y[: len(batch)]).backward()


def _fixed_sizes(net, x, y):
    for batch in (x, x[:5]):
        F.cross_entropy(net(batch + torch.zeros(16, 5)), y[: len(batch)]).backward()


def _copies(net, x, y):
    net.state = net(x)
    copy.deepcopy(net)


def _changes_as_many_values_as_weights_have(net, x, y):
    u = net(x)[:5].repeat(8, 1)  # (40, 3), as the last weights are (3, 40)
    loss = F.cross_entropy(Spike.apply(u), y.repeat(3)[:40])
    u *= 0.5
    loss.backward()


def _flattens(net, x, y):
    nn.Sequential(nn.Flatten(), nn.Linear(5, 3))(x.expand(4, 16, 5))


@pytest.mark.parametrize(
    ("rule", "line", "fails"),
    [
        ("labels", "lambda", lambda net, x, y: F.cross_entropy(net(x), y + 1)),
        ("types", "lambda", lambda net, x, y: F.cross_entropy(net(x), y.float())),
        ("types", "lambda", lambda net, x, y: net(x.double())),
        ("types", "lambda", lambda net, x, y: net((x, y))),
        ("types", "lambda", lambda net, x, y: nn.Linear(3, 4, features=2)),
        ("shapes", "lambda", lambda net, x, y: net(x.T)),
        ("shapes", "lambda", lambda net, x, y: nn.Conv2d(3, 4, 3)(x[None, None])),
        ("shapes", "lambda", lambda net, x, y: net(x).backward()),
        ("shapes", "torch.zeros(16, 5)", _fixed_sizes),
        ("batch-as-time", "lambda", lambda net, x, y: F.cross_entropy(net(x)[:3], y)),
        ("running-statistics", "lambda", lambda net, x, y: nn.BatchNorm1d(5)(x[:1])),
        ("input-scale", "lambda", lambda net, x, y: torch.bernoulli(x)),
        ("in-place", "u *= 0.5", _changes),
        ("in-place", "u *= 0.5", _changes_as_many_values_as_weights_have),
        ("state-kept", "0.5 * self.state", _other_sizes),
        ("script-failed", "copy.deepcopy", _copies),
        ("shapes", "nn.Flatten", _flattens),
        ("script-failed", "lambda", lambda net, x, y: {}["key"]),
    ],
)
def test_an_error_names_its_cause_and_line(rule, line, fails):
    net, optimizer, x, y = made()
    with pytest.raises(Exception), lsg.watch(net, optimizer, quiet=True) as record:  # noqa: B017, PT011
        fails(net, x, y)
    found = record["findings"][0]
    assert (found["rule"], found["severity"]) == (rule, "error")
    assert line in Path(__file__).read_text().splitlines()[found["where"]["line"] - 1]
    assert all(finding["severity"] == "note" for finding in record["findings"][1:])


def test_the_tensors_of_a_call_that_failed():
    net, optimizer, x, y = made()
    with pytest.raises(IndexError), lsg.watch(net, optimizer, quiet=True) as record:
        F.cross_entropy(net(x), y + 7)
    (found,) = record["findings"]
    assert "input float32 (16, 3)" in found["value"]
    assert "target int64 (16,), 7 to 9" in found["value"]


def test_complex_numbers_have_no_range():
    spectrum = torch.fft.fft(torch.ones(4))
    with pytest.raises(RuntimeError), lsg.watch(quiet=True) as record:
        spectrum @ torch.ones(3, 3)
    assert "spectrum complex64 (4,), nan to nan" in record["findings"][0]["value"]


def test_samples_that_were_flattened_into_features():
    net, optimizer, x, y = made()
    with pytest.raises(RuntimeError), lsg.watch(net, optimizer, quiet=True) as record:
        _flattens(net, x, y)
    assert "flatten(2)" in record["findings"][0]["remedy"]["text"]


def test_one_watch_at_a_time():
    with lsg.watch(quiet=True), pytest.raises(RuntimeError, match="another watch"), lsg.watch(quiet=True):
        pass


def test_steps_that_are_measured():
    assert [step for step in range(1, 1001) if is_due(step)] == [1, 2, 10, 30, 100, 300, 1000]
    assert [step for step in range(1, 20) if is_due(step, every=4)] == [1, 2, 4, 8, 10, 12, 16]


def test_a_state_of_snntorch_that_is_reset_is_at_rest():
    snntorch = pytest.importorskip("snntorch")
    from snntorch import utils

    from lsgcli.analysis.watch.modules import holds_a_state

    neurons = snntorch.Leaky(beta=0.9, init_hidden=True)
    x = torch.linspace(0, 3, 12).view(4, 3)
    neurons(x)
    assert holds_a_state(neurons, (x,), x.shape)
    utils.reset(torch.nn.Sequential(neurons))
    assert not holds_a_state(neurons, (x,), x.shape)


class Keeping(nn.Module):
    v = None

    def forward(self, u):
        self.v = u if self.v is None else self.v / 2 + u
        return Spike.apply(self.v - 1)


@pytest.mark.parametrize("resets", [True, False])
def test_an_evaluation_with_more_timesteps_than_training(resets):
    net, optimizer, x, y = made(Keeping)

    def run(x, steps):
        return sum(net(x) for _ in range(steps))

    with Watch() as watch:
        for _ in range(3):
            net[1].v = None
            F.cross_entropy(run(x, 2), y).backward()
            optimizer.step()
        with torch.no_grad():
            for _ in range(2):
                net[1].v = None if resets or net[1].v.requires_grad else net[1].v
                (run(x[:12], 5).argmax(1) == y[:12]).sum()
    assert bool(watch.seen.kept) != resets


class Steps(nn.Module):
    def __init__(self, net, step):
        super().__init__()
        self.net, self.step = net, step

    def forward(self, x):
        return sum(self.net(x[:, t if self.step is None else self.step]) for t in range(x.shape[1]))


def test_parameters_outside_of_modules_may_be_updated_by_hand():
    """The first rows of the weights never change, as those of pixels that are always 0."""
    torch.manual_seed(0)
    weight = torch.randn(50, 3, requires_grad=True)
    with lsg.watch(quiet=True) as record:
        for _ in range(20):
            x = torch.randn(16, 50) * (torch.arange(50) > 30)
            F.cross_entropy(Spike.apply(x) @ weight, torch.arange(16) % 3).backward()
            weight.data -= 0.1 * weight.grad
            weight.grad = None
    assert not {"no-step", "unchanged"} & {one["rule"] for one in record["findings"]}


@pytest.mark.parametrize(
    ("line", "rule"), [("w -= 0.1 * w.grad", "gradients-accumulate"), ("w = w - 0.1 * w.grad", "unchanged")]
)
def test_updates_by_hand(line, rule):
    """Gradients that are never set to zero, and an update that no tensor of the network keeps."""
    torch.manual_seed(0)
    tensors = {"w": torch.randn(5, 3, requires_grad=True)}
    with lsg.watch(quiet=True) as record:
        for _ in range(20):
            F.cross_entropy(Spike.apply(torch.randn(16, 5)) @ tensors["w"], torch.arange(16) % 3).backward()
            with torch.no_grad():
                exec(line, {}, dict(tensors))
    assert [one["rule"] for one in record["findings"] if one["severity"] == "error"] == [rule]


@pytest.mark.parametrize("step", [0, None])
def test_one_timestep_of_many(step):
    """(B, T, features), of which each step reads the first."""
    net, optimizer, *_, y = made()
    x = torch.randn(16, 4, 5)
    net = Steps(net, step)
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 12, x, y)
    assert ("input-constant" in {one["rule"] for one in record["findings"]}) == (step is not None)


@pytest.mark.parametrize("losses", [1, 6])
def test_steps_of_one_batch_are_not_one_batch(losses):
    """As of layers with losses of their own, which step at each timestep."""
    net, optimizer, *_ = made()
    y = torch.arange(16) % 3
    with lsg.watch(net, optimizer, quiet=True) as record:
        for step in range(120):
            labels = y if losses == 1 else y.roll(step // losses % 3)
            train(net, optimizer, 1, torch.randn(16, 5), labels)
    assert ("same-batch" in {one["rule"] for one in record["findings"]}) == (losses == 1)


def test_inputs_that_are_not_finite():
    net, optimizer, x, y = made()
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 3, x / 0, y)
    assert (record["findings"][0]["rule"], record["findings"][0]["measure"]) == ("not-finite", "input")


@pytest.mark.parametrize(("lowest", "found"), [(0.0, True), (-0.5, False)])
def test_targets_that_outputs_cannot_reach(lowest, found):
    """Spikes and a ReLU are never negative; of other outputs, the last ones may have one sign."""
    values = torch.linspace(lowest, lowest + 0.4, 16)[:, None]
    seen = Seen(steps=100, outputs=Outputs("mse_loss", values, values, targets=torch.linspace(-1, 1, 16)[:, None]))
    assert ("target-scale" in {one["rule"] for one in record_of(seen)["findings"]}) == found


@pytest.mark.parametrize(("accuracy", "rule"), [(0.95, "averaging"), (0.3, None)])
def test_a_copy_in_evaluation(accuracy, rule):
    """It is no cause where the trained network does not learn, either."""
    seen = Seen(steps=100, classes=10, elsewhere=True, evaluated=[(100, 0.05, 300)])
    seen.accuracy = [(step, accuracy, 50) for step in range(100)]
    assert ("averaging" in {one["rule"] for one in record_of(seen)["findings"]}) == (rule is not None)


def test_neighbours_that_share_labels():
    """Of 4 samples at 0, 1, 10 and 12, the nearest neighbours are 1, 0, 12 and 10."""
    x = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    for labels, right in [([0, 0, 1, 1], 4), ([0, 1, 0, 1], 0), ([0, 0, 1, 0], 2)]:
        chance = sum((labels.count(label) - 1) / 3 for label in labels)
        variance = sum((labels.count(label) - 1) / 3 * (4 - labels.count(label)) / 3 for label in labels)
        assert agreement(x, torch.tensor(labels)).tolist() == pytest.approx([right, chance, variance])


def test_readings_of_a_tensor_as_samples():
    """Of (T, B, features) in one call, and of (B, features) or (T, features) in each."""
    x = torch.arange(24.0).reshape(4, 3, 2)
    by_sample = x.transpose(0, 1).flatten(1)
    assert torch.equal(dict(layouts([x], 3))["second"], by_sample)
    assert torch.equal(dict(layouts(list(x), 3))["rows"], by_sample)
    assert torch.equal(dict(layouts(list(x.transpose(0, 1)), 3))["calls"], by_sample)


@pytest.mark.parametrize(
    ("rule", "train", "held_out", "losses"),
    [
        ("labels", 0.3, 0.09, [2.3, 2.1]),  # it learns its samples by heart
        (None, 0.5, 0.45, [2.3, 1.2]),
        ("not-learning", 0.1, None, [6.0, 2.3]),  # the loss falls to that of guessing
        (None, None, 0.9, [-1.0, -30.0]),
        ("wrong-sign", None, 0.2, [-1.0, -30.0]),  # without a bound below
    ],
)
def test_losses_and_accuracies(rule, train, held_out, losses):
    seen = Seen(steps=150)
    seen.losses = torch.linspace(*losses, 150).tolist()
    if train is not None:
        seen.classes, seen.accuracy = 10, [(step, train, 50) for step in range(150)]
    if held_out is not None:
        seen.evaluated = [(150, held_out, 300)]
    found = {one["rule"] for one in record_of(seen, None)["findings"] if one["severity"] != "note"}
    assert found == ({rule} if rule else set())


@pytest.mark.parametrize("first", ["classes", "penalty"])
def test_a_penalty_beside_the_loss_of_the_classes(first):
    """Accuracy and batch size are those of the loss that has labels, whichever is computed first."""
    net, optimizer, x, y = made()
    with Watch(steps=9) as watch:
        for _ in range(5):
            losses = {}
            for name in dict.fromkeys([first, "classes", "penalty"]):
                outputs = net(x)
                losses[name] = F.cross_entropy(outputs, y) if name == "classes" else F.mse_loss(outputs[:4], torch.ones(4, 3))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    assert watch.seen.batch == 16
    assert len(watch.seen.accuracy) == 5


def test_accumulated_batches_are_classified_apart():
    """The accuracy of each batch of a step is that of its own outputs, of which all are right."""
    net, optimizer, x, _ = made()
    halves = slice(8), slice(8, 16)
    with torch.no_grad():
        net[2].weight.normal_(std=5)
        y = net(x).argmax(1)
    with Watch(steps=9) as watch:
        for half in halves:
            F.cross_entropy(net(x[half]), y[half]).backward()
        optimizer.step()
    assert [accuracy for _, accuracy, _ in watch.seen.accuracy] == [1, 1]


def test_steps_of_lsgs_neurons_in_evaluation_are_those_of_training():
    """Their kernels differ between both."""
    net, optimizer, x, y = made(lambda: lsg.LIF())
    with Watch(steps=9) as watch:
        for _ in range(3):
            F.cross_entropy(net(x.expand(4, 16, 5)).mean(0), y).backward()
            optimizer.step()
        with torch.no_grad():
            net(x.expand(4, 16, 5))
    assert not watch.seen.fires[True]


def test_the_second_task_of_a_network_that_learned_the_first():
    seen = Seen(steps=200, classes=5, losses=[0.02] * 160 + [1.6] * 40)
    seen.accuracy = [(step, 0.99 if step < 160 else 0.2, 25) for step in range(200)]
    assert "not-learning" not in {one["rule"] for one in record_of(seen)["findings"]}


def test_a_training_without_spikes_comes_first():
    """Of the networks of a script, that with neurons is watched, for as many steps as were asked for."""
    net, _, x, y = made()
    optimizer = torch.optim.SGD(net.parameters(), 1e-6)  # it does not learn, so that no evaluation is waited for
    teacher = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with Watch(steps=20) as watch:
        train(teacher, torch.optim.SGD(teacher.parameters(), 0.1), 30, x, y)
        with pytest.raises(StopWatching):
            train(net, optimizer, 30, x, y)
    assert (watch.seen.steps, len(watch.seen.losses), len(watch.seen.layers)) == (20, 19, 1)
    assert {parameter.size for parameter in watch.seen.parameters.values()} == {200, 40, 120, 3}


def test_each_training_without_spikes_is_forgotten_once():
    """Networks without neurons that take turns end after their share of steps, too."""
    _, _, x, y = made()
    pair = [nn.Linear(5, 3) for _ in range(2)]
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in pair]
    turns = [(pair[turn % 2], optimizers[turn % 2]) for turn in range(20)]

    def take_turns():
        for net, optimizer in turns:
            train(net, optimizer, 8, x, y)

    with pytest.raises(StopWatching), Watch(steps=6):
        take_turns()


def rules_of(steps, net, x, y, *how, **named):
    """Findings by rule of a training by SGD, with arguments of :func:`train`."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, steps, x, y, *how, **named)
    return {one["rule"]: one for one in record["findings"]}


def test_gradients_that_clipping_makes_0():
    """Their squares overflow; the order of the calls is right."""
    net, _, x, y = made()

    def clip():
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)

    assert "gradients-lost" not in rules_of(12, net, x, y, lambda out, y: 1e25 * F.cross_entropy(out, y), clip)


def test_a_layer_that_dies_although_the_loss_falls():
    """The bias of the last layer learns the most frequent class."""
    net, _, x, y = made()

    def die():
        net[0].bias.data -= 0.5

    assert rules_of(101, net, x, y * 0, after_backward=die)["silent"]["layers"] == ["1"]


def test_outputs_with_masked_classes_are_not_saturated():
    net, _, x, y = made()
    mask = torch.tensor([0.0, 0.0, -torch.inf])
    assert "saturated-outputs" not in rules_of(3, net, x, y % 2, lambda out, y: F.cross_entropy(out + mask, y))


@pytest.mark.parametrize(("rule", "shift", "kept"), [("labels", 1, 16), ("batch-as-time", 0, 12)])
def test_labels_that_do_not_fit_the_outputs(rule, shift, kept):
    """Labels from 1, and those of fewer samples than the outputs have, whose rule is named rather than that of the error."""
    net, optimizer, x, y = made()
    with pytest.raises((IndexError, ValueError)), lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 3, x, (y + shift)[:kept])
    assert (record["findings"][0]["rule"], record["findings"][0]["severity"]) == (rule, "error")
    assert record["findings"][0]["where"]["file"] == __file__


class Leaky(nn.Module):
    """Neurons whose potentials before each timestep are those after the one before, as ``carry`` gives them."""

    def __init__(self, carry):
        super().__init__()
        self.carry = carry

    def forward(self, x):
        u, spikes = torch.zeros_like(x), 0
        for t in range(4):
            u = self.carry(u) + (1 + t) * x
            spikes = spikes + Spike.apply(u - 1)
        return spikes


@pytest.mark.parametrize(
    ("carry", "decay", "rule"),
    [
        (lambda u: 0.8 * u, 0.8, None),
        (lambda u: 0.8 * u.detach(), 0.0, "state-lost"),
        (lambda u: torch.zeros_like(u), 0.0, "state-lost"),
        (lambda u: 0.0 * u, 0.0, "decay-at-bound"),
    ],
)
def test_what_potentials_keep_of_the_timestep_before(carry, decay, rule):
    net, _, x, y = made(lambda: Leaky(carry))
    optimizer = torch.optim.SGD(net.parameters(), 1e-6)
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(net, optimizer, 1, 3 * x, y)
    (layer,) = watch.seen.layers.values()
    assert layer.memory == pytest.approx(decay, abs=1e-6)
    found = {one["rule"] for one in record_of(watch.seen)["findings"]}
    assert found & {"state-lost", "decay-at-bound"} == ({rule} if rule else set())


def test_calls_for_other_samples_are_no_timesteps():
    """As those of a pair of views: nothing of the first call is to be kept for the second."""
    net, optimizer, x, y = made()
    with Watch(steps=1) as watch, pytest.raises(StopWatching):
        train(lambda x: net(x) + net(-x) + net(2 * x), optimizer, 1, x, y)
    (layer,) = watch.seen.layers.values()
    assert layer.calls == 3
    assert layer.memory != layer.memory  # NaN


@pytest.mark.parametrize(("rate", "steps"), [(0.5, 60), (1e-9, 40)])
def test_the_evaluation_of_a_network_that_learns_is_waited_for(rate, steps):
    torch.manual_seed(0)
    net, x, y = nn.Sequential(nn.Linear(5, 40), Neurons(), nn.Linear(40, 3)), torch.randn(16, 5), torch.arange(16) % 3
    optimizer = torch.optim.SGD(net.parameters(), rate)

    def script():
        train(net, optimizer, 59, 3 * x, y)
        with torch.no_grad():
            net(30 * x)
        train(net, optimizer, 10, 3 * x, y)

    with Watch(steps=40) as watch, pytest.raises(StopWatching):
        script()
    assert watch.seen.steps == steps
    assert bool(watch.seen.evaluated_input) == (steps == 60)


@pytest.mark.parametrize("restored", [False, True])
def test_weights_of_an_earlier_state_are_evaluated(restored):
    net, optimizer, x, y = made()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Watch() as watch:
        train(net, optimizer, 3, x, y)
        if restored:
            net.load_state_dict(before)
        with torch.no_grad():
            net(x)
    assert watch.seen.restored == restored


def test_weights_of_an_earlier_state_are_evaluated_after_the_function_that_trained():
    net, _, x, y = made()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Watch() as watch:
        train(net, torch.optim.SGD(net.parameters(), 0.1), 3, x, y)  # which has the only reference to the optimiser
        net.load_state_dict(before)
        with torch.no_grad():
            net(x)
    assert watch.seen.restored


@pytest.mark.parametrize(
    ("steps", "order"), [(1, [2, 0, 1]), (3, [2, 0, 1]), (1, [0, 1, 2])]
)  # calls of the network in a batch
@pytest.mark.parametrize(
    ("decode", "own"),
    [
        (lambda out, labels: (out.argmax(1), labels), 5 / 6),
        (lambda out, labels: (out.argmin(1), labels), 5 / 6),
        (lambda out, labels: (out.argmax(1), labels.roll(1)), 0.0),
        (lambda out, labels: (labels.roll(1), out.argmax(1)), 0.0),  # labels on the left
    ],
)
def test_the_network_decides_by_its_outputs_in_training(decode, own, steps, order):
    """Each class has an output of its own in training, in an order that only the loss knows."""
    order = torch.tensor(order)
    net, labels = nn.Linear(3, 3), torch.arange(3).repeat(4)
    x = 5 * torch.eye(3)[order[labels]]
    net.weight.data, net.bias.data = torch.eye(3), torch.zeros(3)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    with Watch() as watch:
        train(
            net,
            optimizer,
            3,
            x,
            labels,
            lambda out, y: F.nll_loss(nn.LogSoftmax(1)(sum(net(x) for _ in range(steps - 1)) + out), y),
        )
        with torch.no_grad():
            for _ in range(steps):
                out = net(x[[1, 1, 2, 3, 4, 5]])  # of which the first has another label
            predicted, given = decode(out[:, order], labels[:6].clone())
        (predicted == given).float().mean()
    (judged,) = watch.seen.decisions
    assert judged.own == pytest.approx(own)
    assert judged.accuracy == pytest.approx(float((predicted == given).float().mean()))


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        (lambda net, x, y: None, "no evaluation seen"),
        (lambda net, x, y: net(x), "was not seen"),
        (lambda net, x, y: net(x[:12]).argmax(1) == y[:12], ""),
    ],
)
def test_what_was_not_seen_of_an_evaluation_is_said(evaluate, said):
    net, optimizer, x, y = made()
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 3, x, y)
        with torch.no_grad():
            evaluate(net, x, y)
    assert said in " ".join(record["unseen"])
    assert bool(said) == bool(record["unseen"])


def test_scores_of_anomalies_may_be_good_where_their_inputs_are_unusual():
    seen = Seen(steps=100, trained_input={"std": 1.0, "mean": 0.0}, evaluated_input={"std": 9.0, "mean": 3.0})
    assert [one["rule"] for one in record_of(seen)["findings"]] == ["evaluation-input"]
    seen.ranked = 0.95
    assert record_of(seen)["findings"] == []


@pytest.mark.parametrize("rounded", [False, True])
def test_weights_that_the_evaluation_itself_rounds(rounded):
    net, optimizer, x, y = made()
    with Watch() as watch:
        train(net, optimizer, 3, x, y)
        with torch.no_grad():
            if rounded:
                net[2].weight.copy_(net[2].weight.round())
            (net(x[:12]).argmax(1) == y[:12]).sum()
    assert watch.seen.restored == watch.seen.decisions[-1].restored == rounded


def test_a_closure_and_gradients_by_hand_are_no_missing_backward():
    net, _, x, y = made()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    with Watch() as watch:
        for _ in range(3):
            optimizer.step(closure)
    assert watch.seen.without_backward == 0
    assert len(watch.seen.layers) == 1
    assert {len(parameter.updates) for parameter in watch.seen.parameters.values()} == {3}
    assert all(update > 0 for parameter in watch.seen.parameters.values() for update in parameter.updates)
    plain = torch.optim.SGD(net.parameters(), 0.1)
    with Watch() as watch:
        for _ in range(3):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            plain.step()
    assert watch.seen.without_backward == 0


def test_updates_of_two_optimisers_that_step_one_after_the_other():
    net, _, x, y = made()
    first, second = torch.optim.SGD(net[0].parameters(), 0.1), torch.optim.SGD(net[2].parameters(), 0.1)
    with Watch() as watch:
        for _ in range(3):
            before = {id(p): p.detach().clone() for p in net.parameters()}
            train(net, first, 1, x, y)
            second.step()
    for p in net.parameters():
        change = ((p - before[id(p)]).norm() / before[id(p)].norm()).item()
        assert watch.seen.parameters[id(p)].updates[2:] == [pytest.approx(change, rel=1e-3)]
    assert "unchanged" not in {found["rule"] for found in record_of(watch.seen)["findings"]}


def test_an_optimiser_that_steps_another_is_measured_once():
    class Around(torch.optim.Optimizer):
        def __init__(self, inner):
            self.inner = inner
            super().__init__(inner.param_groups, {})

        def step(self, closure=None):
            self.inner.step()

    net, optimizer, x, y = made()
    with Watch() as watch:
        train(net, Around(optimizer), 1, x, y)
    assert watch.seen.steps == 1
    assert {len(parameter.gradients) for parameter in watch.seen.parameters.values()} == {1}
    assert {len(parameter.updates) for parameter in watch.seen.parameters.values()} == {1}


class Forgetful(Spike):
    @staticmethod
    def backward(ctx, grad):
        return Spike.backward(ctx, torch.ones_like(grad))


def test_a_surrogate_that_ignores_the_gradient():
    class Firing(nn.Module):
        def forward(self, u):
            return Forgetful.apply(u - 1)

    net, _, x, y = made(Firing)
    assert rules_of(12, net, 3 * x, y)["wrong-sign"]["layers"] == ["1"]
    assert "wrong-sign" not in rules_of(12, made()[0], 3 * x, y)


class Overflowing(Spike):
    @staticmethod
    def backward(ctx, grad):
        return grad * math.inf


def test_a_surrogate_that_overflows_does_not_ignore_the_gradient():
    class Firing(nn.Module):
        def forward(self, u):
            return Overflowing.apply(u - 1)

    net, _, x, y = made(Firing)
    with torch.no_grad():
        net[2].weight[:, ::2] = 0  # where 0 arrives, 0 by infinity is not a number
    assert "wrong-sign" not in rules_of(12, net, x, y)


class SoftNeurons(nn.Module):
    """Neurons without a function of their own: u - v_th is compared with 0, and a sigmoid has the gradient."""

    threshold = 0.8

    def forward(self, u):
        distance = u - self.threshold
        soft = torch.sigmoid(4 * distance)
        return (distance > 0).float() + soft - soft.detach()


def test_neurons_that_compare_with_0_have_the_threshold_of_their_module():
    net, optimizer, x, y = made(SoftNeurons)
    with Watch() as watch:
        train(net, optimizer, 3, x, y)
    assert watch.seen.steps == 3
    assert watch.seen.failed == {}
    assert [layer.threshold for layer in watch.seen.layers.values()] == [0.8]


@pytest.mark.parametrize(
    ("step", "derivative"),
    [
        (lambda v, x: 0.9 * v + x, 0.9),
        (lambda v, x: v + 0.2 * (x - v), 0.8),
        (lambda v, x: v - (1 - v) * 0.5 + x, 1.5),
        (lambda v, x: v / 4 + x, 0.25),
        (lambda v, x: v.detach() + x, 0.0),
        (lambda v, x: torch.tanh(v) + x, math.nan),
    ],
)
def test_the_derivative_of_potentials_by_those_before(step, derivative):
    v = torch.zeros(4, 3)
    x = torch.rand(4, 3, requires_grad=True)
    nodes = []
    for _ in range(3):
        v = step(v, x)
        u = v - 1
        nodes.append(u.grad_fn._sequence_nr())
    assert memory(u, *nodes[:2]) == pytest.approx(derivative, nan_ok=True)


@pytest.mark.parametrize(("low", "outside"), [(1, 2.0), (0, 0.0)])
def test_targets_of_a_binary_cross_entropy(low, outside):
    net, optimizer, x, _ = made()
    y = torch.randint(low, low + 2, (16,)).float()
    with Watch() as watch:
        train(net, optimizer, 1, x, y, lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], y))
    assert watch.seen.outside == outside


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda out, y: F.cross_entropy(out[0].softmax(0), y[0]),
        lambda out, y: F.cross_entropy(out, y) + F.binary_cross_entropy_with_logits(out[:0], out[:0].detach(), reduction="sum"),
    ],
)
def test_losses_of_one_sample_and_of_none(loss_of):
    net, optimizer, x, y = made()
    with Watch() as watch:
        train(net, optimizer, 3, x, y, loss_of)
    assert watch.seen.steps == 3


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0, 4, 2, 1]])
def test_features_in_another_order_in_evaluation(order):
    """Of features with means of 0 to 4 and a standard deviation of 1, the median of the differences is 2."""
    net, optimizer, x, y = made()
    x = x + torch.arange(5.0)
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, 3, x, y)
        with torch.no_grad():
            net(x[:12, order])
    found = {one["rule"]: one["value"] for one in record["findings"]}
    assert found.get("evaluation-input") == (None if order[0] == 0 else pytest.approx(2, abs=0.8))


def test_scores_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    net, optimizer, x, y = made()
    with Watch() as watch:
        train(net, optimizer, 1, x, y)
        metrics.balanced_accuracy_score([0, 1, 1, 0], [0, 1, 0, 0])
        metrics.r2_score([[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]])
        metrics.roc_auc_score([0, 1, 1, 0], [0.3, 0.1, 0.4, 0.2])
    assert watch.seen.evaluated == [(1, 0.75, 4)]
    watch.seen.evaluated.insert(0, (0, 0.25, 4))
    assert watch.seen.held_out == 0.75
    assert watch.seen.evaluated_explained == pytest.approx(0.5)
    assert watch.seen.correlation == pytest.approx(3**0.5 / 2)
    assert watch.seen.ranked == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rule", "attributes"),
    [
        ("labels", {"accuracy": [(99, 0.99, 50)], "evaluated": [(100, 0.0, 50)]}),  # the lowest output is taken
        ("metric", {"evaluated_explained": -3.0, "correlation": 0.9}),  # predictions that are still standardised
        (
            "silent",
            {"classes": 0, "accuracy": [], "losses": [1.0] * 50 + [0.1] * 50, "evaluated_explained": -0.1, "dead": True},
        ),
        ("labels", {"evaluated": [(100, 0.25, 50)]}),
        ("labels", {"outside": 2.0, "classes": 2, "accuracy": []}),
        ("not-learning", {"steps": 120, "losses": [1.0] * 60 + [0.001] * 60, "accuracy": [(119, 0.1, 50)]}),
        ("no-step", {"steps": 0, "accuracy": [], "ended": True, "has_optimiser": True}),
        ("running-statistics", {"momenta": {"norm": (0.002, None)}, "evaluated": [(100, 0.6, 50)]}),
        ("few-steps", {"steps": 6, "backwards": 180, "accuracy": [(5, 0.1, 50)]}),
        ("input-scale", {"trained_input": {"std": 1.0, "unequal": 200.0}, "accuracy": [(99, 0.3, 50)]}),
        ("evaluation-input", {"trained_input": {"std": 1.0, "mean": 0.0}, "evaluated_input": {"std": 9.0, "mean": 0.0}}),
    ],
)
def test_what_was_seen_and_its_rule(rule, attributes):
    rate = 0.0 if attributes.pop("dead", False) else 0.1
    seen = Seen(**{"steps": 100, "classes": 10, "accuracy": [(99, 0.99, 50)]} | attributes)
    seen.layers = {0: Layer(name="1")}
    seen.records = [{"name": "1", "firing_rate": rate, "u_std": 1.0}]
    assert record_of(seen)["findings"][0]["rule"] == rule
    assert record_of(seen)["findings"][0]["severity"] != "note"


@pytest.mark.parametrize(("first", "rule"), [(0.1, "signal-lost"), (0.0, None)])
def test_a_signal_that_neurons_did_not_send_at_first_is_not_lost(first, rule):
    seen = Seen(steps=100, entering={"out": [0.0, 0.001]}, records=[{"name": "1", "firing_rate": 0.1}])
    seen.first = {"1": {"name": "1", "firing_rate": first}}
    assert {found["rule"] for found in record_of(seen)["findings"]} & {"signal-lost"} == ({rule} if rule else set())


def test_the_largest_learning_rate_of_a_schedule():
    seen = Seen(steps=100, rate=1e-3, highest_rate=50.0, classes=10, accuracy=[(99, 0.1, 50)])
    assert record_of(seen)["findings"][0]["rule"] == "learning-rate"
