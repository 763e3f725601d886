"""A watched training: measures against hand-made numbers, the same bits, and hooks that are gone afterwards."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lsgcli as lsg
from lsgcli.analysis.watch.neighbours import agreement, layouts
from lsgcli.analysis.watch.seen import Outputs, Seen
from lsgcli.analysis.watch.watch import Enough, Watch, is_due
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
    with Watch(steps=1) as watch, pytest.raises(Enough):
        train(net, optimizer, 1, x, y)
    (layer,) = watch.seen.records
    assert layer["name"] == "1"
    assert layer["firing_rate"] == pytest.approx(spikes.mean().item())
    assert layer["u_mean"] == pytest.approx(u.mean().item(), abs=1e-5)
    assert layer["u_std"] == pytest.approx(u.std(correction=0).item(), rel=1e-4)
    assert layer["alpha"] == pytest.approx(0.5, rel=1e-3)
    assert layer["coverage"] == pytest.approx(((u - 1).abs() < 0.25).double().mean().item(), abs=2e-3)
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
    with Watch(steps=1) as watch, pytest.raises(Enough):
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
    with Watch(steps=1) as watch, pytest.raises(Enough):
        train(lambda x: Spike.apply(x @ inner - 9) @ outer, torch.optim.SGD([inner, outer], 0.1), 1, x, y)
    (layer,) = watch.seen.records
    assert layer["firing_rate"] == 0
    assert [parameter.optimised for parameter in watch.seen.parameters.values()] == [True, True]


def test_a_layer_of_a_wrapped_network_is_not_shared():
    snntorch = pytest.importorskip("snntorch")
    net = nn.DataParallel(nn.Sequential(nn.Linear(5, 40), snntorch.Leaky(beta=0.5, init_hidden=True), nn.Linear(40, 3)))
    with Watch(steps=1) as watch, pytest.raises(Enough):
        train(net, torch.optim.SGD(net.parameters(), 0.1), 1, torch.randn(16, 5), torch.arange(16) % 3)
    assert watch.seen.shared == []
    assert [layer["name"] for layer in watch.seen.records] == ["1"]


def test_an_error_in_the_loop_is_explained_and_raised(capsys):
    net, optimizer, x, y = made()
    with pytest.raises(RuntimeError, match="does not require grad"), lsg.watch(net, optimizer) as record:
        F.cross_entropy(net(x).detach(), y).backward()
    assert record["findings"][0]["rule"] == "no-graph"
    assert record["findings"][0]["where"]["file"] == __file__
    assert "no-graph" in capsys.readouterr().err


def test_one_watch_at_a_time():
    with lsg.watch(quiet=True), pytest.raises(RuntimeError, match="another watch"), lsg.watch(quiet=True):
        pass


def test_steps_that_are_measured():
    assert [step for step in range(1, 1001) if is_due(step)] == [1, 2, 10, 30, 100, 300, 1000]
    assert [step for step in range(1, 20) if is_due(step, every=4)] == [1, 2, 4, 8, 10, 12, 16]


def test_a_state_of_snntorch_that_is_reset_is_at_rest():
    snntorch = pytest.importorskip("snntorch")
    from snntorch import utils

    from lsgcli.analysis.watch.neurons import holds_a_state

    neurons = snntorch.Leaky(beta=0.9, init_hidden=True)
    x = torch.linspace(0, 3, 12).view(4, 3)
    neurons(x)
    assert holds_a_state(neurons, (x,), x.shape)
    utils.reset(torch.nn.Sequential(neurons))
    assert not holds_a_state(neurons, (x,), x.shape)


class Listed(nn.Module):
    """Its second layer is in a plain list."""

    def __init__(self):
        super().__init__()
        self.first, self.others = nn.Linear(5, 40), [nn.Linear(40, 40)]
        self.neurons, self.out = Neurons(), nn.Linear(40, 3)

    def forward(self, x):
        return self.out(self.neurons(self.others[0](self.first(x))))


class Steps(nn.Module):
    def __init__(self, net, step):
        super().__init__()
        self.net, self.step = net, step

    def forward(self, x):
        return sum(self.net(x[:, t if self.step is None else self.step]) for t in range(x.shape[1]))


def test_layers_in_a_plain_list_have_no_optimiser():
    torch.manual_seed(0)
    net = Listed()
    x, y = torch.randn(16, 5), torch.arange(16) % 3
    with lsg.watch(net, quiet=True) as record:
        train(net, torch.optim.SGD(net.parameters(), 0.1), 12, x, y)
    found = {one["rule"]: one for one in record["findings"]}
    assert found["not-optimised"]["value"] == "weight, bias"


def test_parameters_outside_of_modules_may_be_updated_by_hand():
    torch.manual_seed(0)
    weight = torch.randn(5, 3, requires_grad=True)
    with lsg.watch(quiet=True) as record:
        for _ in range(20):
            F.cross_entropy(Spike.apply(torch.randn(16, 5)) @ weight, torch.arange(16) % 3).backward()
            weight.data -= 0.1 * weight.grad
            weight.grad = None
    assert "no-step" not in {one["rule"] for one in record["findings"]}


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
    seen = Seen(steps=100, outputs=Outputs("mse_loss", None, values, values, targets=torch.linspace(-1, 1, 16)[:, None]))
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
        assert agreement(x, torch.tensor(labels)) == (right, pytest.approx(chance), pytest.approx(variance))


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


def test_a_training_without_spikes_comes_first():
    """Of the networks of a script, that with neurons is watched, for as many steps as were asked for."""
    net, optimizer, x, y = made()
    teacher = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with Watch(steps=20) as watch:
        train(teacher, torch.optim.SGD(teacher.parameters(), 0.1), 30, x, y)
        with pytest.raises(Enough):
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

    with pytest.raises(Enough), Watch(steps=6):
        take_turns()


class Rounded(nn.Linear):
    def forward(self, x):
        return F.linear(x, (4 * self.weight).round() / 4, self.bias)


def rules_of(steps, net, x, y, *how, **named):
    """Findings by rule of a training by SGD, with arguments of :func:`train`."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with lsg.watch(net, optimizer, quiet=True) as record:
        train(net, optimizer, steps, x, y, *how, **named)
    return {one["rule"]: one for one in record["findings"]}


def test_weights_whose_gradient_is_0():
    net, _, x, y = made()
    net[0] = Rounded(5, 40)
    assert rules_of(12, net, 3 * x, y)["without-gradient"]["value"] == "0.weight"


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


@pytest.mark.parametrize(("weights", "found"), [((1.0, 1.0, 8.0), False), ((8.0, 1.0, 1.0), True)])
def test_weights_of_classes(weights, found):
    net, _, x, _ = made()
    y = torch.tensor([0] * 7 + [1] * 6 + [2] * 3)
    named = rules_of(12, net, x, y, lambda out, y: F.cross_entropy(out, y, weight=torch.tensor(weights)))
    assert ("weight of the most frequent class" in named.get("classes", {"measure": ""})["measure"]) == found


def test_outputs_with_masked_classes_are_not_saturated():
    net, _, x, y = made()
    mask = torch.tensor([0.0, 0.0, -torch.inf])
    assert "saturated-outputs" not in rules_of(3, net, x, y % 2, lambda out, y: F.cross_entropy(out + mask, y))


def test_labels_out_of_range(capsys):
    net, optimizer, x, y = made()
    with pytest.raises(IndexError), lsg.watch(net, optimizer) as record:
        train(net, optimizer, 3, x, y + 1)
    assert "count labels from 0" in record["findings"][0]["remedy"]["text"]
