"""Each intervention: a small training with one fault, whose losses or weights become those of the training without it."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lsgcli as lsg
from lsgcli import registry
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.seen import Neurons, Parameters, Seen
from lsgcli.analysis.watch.watch import Watch

CLASSES = 4
torch.manual_seed(0)
X = torch.randn(24, 6)
Y = torch.arange(24) % CLASSES


def new(layers=2):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES)) if layers == 2 else nn.Linear(6, CLASSES)


def train(net, forward=None, loss=F.cross_entropy, rate=0.1, steps=3, clear=True, **options):
    """Losses and the last weights of a training by gradient descent."""
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, **options)
    losses = []
    for _ in range(steps):
        value = loss((forward or net)(X), Y)
        if clear:
            optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses, [parameter.detach().clone() for parameter in net.parameters()]


def changed(name, run, values=None):
    """What a training gives under an intervention."""
    intervention = registry.get("intervention", name)()
    guard = Guard()
    intervention.begin(guard, values or {})
    try:
        return run()
    finally:
        guard.close()


def same(first, second):
    assert first[0] == pytest.approx(second[0])
    for one, other in zip(first[1], second[1], strict=True):
        torch.testing.assert_close(one, other)


def differ(first, second):
    assert any(not torch.allclose(one, other) for one, other in zip(first[1], second[1], strict=True))


class Keeping(nn.Module):
    """A state that the batch before left, in a tuple, an attribute, a buffer, and an attribute that the first call makes."""

    def __init__(self, keeps):
        super().__init__()
        self.keeps = keeps
        self.layer = nn.Linear(6, CLASSES)
        self.state = (None, 0)
        self.mem = None
        self.register_buffer("u", torch.zeros(24, CLASSES))

    def forward(self, x):
        current = self.layer(x)
        u = current + (0 if self.state[0] is None else self.state[0]) + (0 if self.mem is None else self.mem) + self.u
        u = u + getattr(self, "late", 0)
        if self.keeps:
            self.state, self.mem, self.u = (0.5 * u.detach(), 1), 0.3 * u.detach(), 0.1 * u.detach()
            self.late = 0.2 * u.detach()
        return u


def of_state(keeps):
    torch.manual_seed(1)
    return train(Keeping(keeps))


def fault(name):
    """(training with a fault, training without it) that an intervention is to make equal."""

    def softmax(net):
        return lambda x: net(x).softmax(1)

    def one(**options):
        return lambda: train(new(), **options)

    def doubled(outputs, labels):
        return F.mse_loss(outputs[:, :1], labels.float())

    def fitting(outputs, labels):
        return F.mse_loss(outputs[:, :1], labels.float()[:, None])

    def minus(outputs, labels):
        return -F.cross_entropy(outputs, labels)

    def clipped():
        net = new()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1e-6)
            optimiser.step()
        return [0.0], [parameter.detach().clone() for parameter in net.parameters()]

    def frozen(freeze):
        def run():
            net = new()
            net[0].requires_grad_(not freeze)
            optimiser = torch.optim.SGD(net[2].parameters() if freeze else net.parameters(), lr=0.1)
            losses = []
            for _ in range(3):
                loss = F.cross_entropy(net(X), Y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            return losses, [parameter.detach().clone() for parameter in net.parameters()]

        return run

    def moded(mode):
        def run():
            torch.manual_seed(3)
            net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)).train(mode)
            return train(net)

        return run

    def dropped(p):
        def run():
            torch.manual_seed(3)
            return train(nn.Sequential(nn.Linear(6, 8), nn.Dropout(p), nn.Linear(8, CLASSES)))

        return run

    def without_clipping():
        return [0.0], train(new())[1]

    def logits():
        net = new()
        return train(net, forward=softmax(net))

    return {
        "states-at-rest": (lambda: of_state(True), lambda: of_state(False)),
        "training-mode": (moded(False), moded(True)),
        "no-dropout": (dropped(0.9), dropped(0.0)),
        "logits": (logits, one()),
        "equal-shapes": (one(loss=doubled), one(loss=fitting)),
        "other-sign": (one(loss=minus), one()),
        "fresh-gradients": (one(clear=False), one()),
        "no-clipping": (clipped, without_clipping),
        "no-weight-decay": (one(weight_decay=0.5), one()),
        "larger-rate": (one(rate=0.01), one(rate=0.1)),
        "smaller-rate": (one(rate=1.0), one(rate=0.1)),
        "all-parameters": (frozen(True), frozen(False)),
    }[name]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "name",
    [
        "states-at-rest",
        "training-mode",
        "no-dropout",
        "logits",
        "equal-shapes",
        "other-sign",
        "fresh-gradients",
        "no-clipping",
        "no-weight-decay",
        "larger-rate",
        "smaller-rate",
        "all-parameters",
    ],
)
def test_a_fault_is_taken_away(name):
    wrong, right = fault(name)
    differ(wrong(), right())
    losses, weights = changed(name, wrong)
    expected = right()
    if name == "other-sign":  # the loss that the script prints stays its own
        losses = [-loss for loss in losses]
    same((losses, weights), expected)
    differ(wrong(), right())  # nothing is left of the change


def test_evaluation_mode():
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(6, CLASSES))

    def evaluate():
        net.train()
        with torch.no_grad():
            return net(X)

    torch.testing.assert_close(changed("evaluation-mode", evaluate), net[1](X))


def test_axes_are_exchanged_for_the_network_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            self.shape = x.shape
            return self.second(self.first(x))

    net = Net()
    x = torch.randn(4, 7, 6)
    expected = net(x.transpose(0, 1))
    torch.testing.assert_close(changed("axes-exchanged", lambda: net(x)), expected)
    assert net.shape == (7, 4, 6)


def test_an_input_gets_a_usual_scale():
    net = nn.Linear(6, 2)
    x = 50 * X.reshape(2, 12, 6)  # a sequence
    torch.testing.assert_close(changed("standard-input", lambda: net(300 + x)), net((x - x.mean()) / x.std()))


def test_features_are_standardised_each_by_itself():
    net = nn.Linear(6, 2)
    x = X * torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4, 1e5]) + 7
    torch.testing.assert_close(changed("standard-input", lambda: net(x)), net((x - x.mean(0)) / x.std(0)))


def test_neurons_become_a_relu():
    """Those of a library, of their current; those of a script, of their potentials, whatever the threshold."""
    lif = lsg.LIF()
    current = torch.randn(3, 4, 5)
    rectified = changed("rectified", lambda: lif(current), {"surrogates": False})
    torch.testing.assert_close(rectified, current.relu())
    u = torch.randn(200)
    above = changed("rectified", lambda: Narrow.apply(u - 30), {"surrogates": True})
    torch.testing.assert_close(above, ((u - u.mean()) / u.std()).relu())


def test_the_read_out_of_a_regression():
    net = nn.Linear(6, 1)
    targets = torch.randn(24)

    def run():
        F.mse_loss(net(X).relu().squeeze(1), targets).backward()
        return net.weight.grad

    grad = changed("read-out", run)
    other = net.weight.detach().clone().requires_grad_()
    (F.linear(X, other, net.bias.detach()).squeeze(1) - targets).square().mean().backward()
    torch.testing.assert_close(grad, other.grad)


def test_currents_get_half_the_threshold():
    """The first and the second layer of weights, of which the second has no neurons behind it."""
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    seen = Seen(weighted=dict.fromkeys([id(net[0].weight), id(net[1].weight)]))
    seen.layers = {0: Neurons("lif", weight_id=id(net[0].weight), threshold=4.0)}
    values = registry.get("intervention", "scaled-currents")().values(seen)
    assert values == {"0": 4.0}
    first, second = changed("scaled-currents", lambda: (net[0](X), net[0](2 * X)), values)
    assert float(first.detach().std()) == pytest.approx(2.0)
    torch.testing.assert_close(first, net[0](X) * 2.0 / net[0](X).std())
    torch.testing.assert_close(second, net[0](2 * X) * 2.0 / net[0](X).std())  # the factor of the first batch
    torch.testing.assert_close(
        changed("scaled-currents", lambda: net[1](torch.ones(3, 8)), {"1": 4.0}), net[1](torch.ones(3, 8))
    )


def test_currents_behind_a_normalisation_are_scaled_behind_it():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    hidden = []
    net[2].register_forward_pre_hook(lambda module, given: hidden.append(given[0].detach()))
    changed("scaled-currents", lambda: net(X), {"0": 4.0})
    assert float(hidden[0].std()) == pytest.approx(2.0, rel=1e-4)


def test_an_ordinary_network_is_asked_only_where_data_may_be_wrong():
    seen = Seen(steps=20, classes=CLASSES, backwards=20, layers={0: Neurons("lif", library="snntorch")})
    ordinary = registry.get("intervention", "ordinary")()
    assert ordinary.is_possible(seen)
    seen.agreements = {("input", "rows"): torch.tensor([90.0, 10.0, 9.0])}  # far more neighbours share labels than by chance
    assert not ordinary.is_possible(seen)


class Narrow(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return (x > 0).float()

    @staticmethod
    def backward(context, grad):
        return torch.zeros_like(grad)


@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_a_surrogate_is_an_arc_tangent(threshold):
    """Also of neurons that compare themselves: the gradient is 1 / (1 + (x / std)^2), at the distance x from the threshold."""
    u = torch.randn(500, requires_grad=True)
    changed("arc-tangent", lambda: Narrow.apply(u - threshold), {"compared": False}).sum().backward()
    distance = u.detach() - threshold
    expected = 1 / (1 + (distance / distance.std()) ** 2)
    torch.testing.assert_close(u.grad, expected)
    u.grad = None
    row = u[None]
    spikes = changed("arc-tangent", lambda: (row > threshold).float(), {"compared": True})
    torch.testing.assert_close(spikes.detach(), (row > threshold).float())
    spikes.sum().backward()
    torch.testing.assert_close(u.grad, expected)


def test_states_keep_their_gradient():
    """d(a (a x)) / dx is a^2 where a timestep's state is not detached, and the state of a batch before has none."""
    x = torch.tensor(3.0, requires_grad=True)

    def run():
        x.grad = None
        state = 0.5 * x
        (0.5 * state.detach() + 0 * x).backward()
        within = float(x.grad)
        x.grad = None
        (state.detach() + 2 * x).backward()  # of the graph that has been used
        return within, float(x.grad)

    assert run() == (0.0, 2.0)
    assert changed("connected-timesteps", run) == (0.25, 2.0)


def test_adam_steps_instead_of_the_optimiser():
    def expected():
        net = new()
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(net(X), Y).backward()
            optimiser.step()
        return [parameter.detach() for parameter in net.parameters()]

    def without_steps():
        net = new()
        for _ in range(3):
            F.cross_entropy(net(X), Y).backward()
        return [parameter.detach() for parameter in net.parameters()]

    _, weights = changed("adam", lambda: train(new(), rate=100.0, momentum=0.9), {"steps": True})
    for one, other, third in zip(weights, expected(), changed("adam", without_steps, {"steps": False}), strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(third, other)


def test_the_read_out_is_what_the_last_weights_put_out():
    """A loss on counts has no gradient here; the mean over two calls of the last layer has."""
    net = nn.Linear(6, CLASSES)
    start = net.weight.detach().clone()

    def run():
        counts = sum((net(x) > 100).float() for x in (X, 2 * X))
        F.mse_loss(counts + 0 * net(X).sum(), F.one_hot(Y, CLASSES).float()).backward()
        return net.weight.grad

    grad = changed("read-out", run)
    other = start.clone().requires_grad_()
    logits = sum(F.linear(x, other, net.bias.detach()) for x in (X, 2 * X, X)) / 3
    F.cross_entropy(logits, Y).backward()
    torch.testing.assert_close(grad, other.grad)


def test_one_batch_again_and_again():
    loader = DataLoader(TensorDataset(X, Y), batch_size=6)
    batches = changed("one-batch", lambda: [x for x, _ in loader])
    assert all(torch.equal(x, X[:6]) for x in batches)

    def evaluate():
        with torch.no_grad():
            return torch.cat([x for x, _ in loader])

    assert torch.equal(changed("one-batch", evaluate), X)


def test_weights_are_drawn_anew():
    net = new()
    nn.init.constant_(net[0].weight, 0.1)
    changed("new-weights", lambda: net(X))
    assert float(net[0].weight.detach().std()) == pytest.approx(
        1 / math.sqrt(6), rel=0.4
    )  # of a uniform distribution of variance 1 / 6


def test_what_is_possible_follows_from_what_was_seen():
    plain = Seen(
        steps=20, classes=CLASSES, settings={"lr": 0.1}, backwards=20, parameters={0: Parameters("w", None, 9, optimised=True)}
    )
    possible = {name for name in registry.names("intervention") if registry.get("intervention", name)().is_possible(plain)}
    assert possible == {"larger-rate", "smaller-rate", "adam", "read-out"}
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(6, CLASSES))
    with Watch() as watch:
        train(net, clear=False, steps=5, weight_decay=0.1)
    found = {name for name in registry.names("intervention") if registry.get("intervention", name)().is_possible(watch.seen)}
    assert found >= {"no-dropout", "fresh-gradients", "no-weight-decay"}
    assert not found & {"axes-exchanged", "logits", "equal-shapes", "all-parameters", "states-at-rest", "new-weights"}
