"""Losses and scores against their formulas; evaluation by the folded network, which answers as the network itself."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli import models, registry
from lsgcli.data.batches import Batch
from lsgcli.system.device import Compute
from lsgcli.training.evaluate import Evaluation, evaluate, measure
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import balanced, gradients, observed_rates, of_run, rate_penalty
from tests import tiny


def log_softmax(y):
    return y - np.log(np.exp(y).sum(-1, keepdims=True))


def values(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 5, 3)), rng.integers(0, 3, 5)


def smoothed(labels, epsilon):
    return (1 - epsilon) * np.eye(3)[labels] + epsilon / 3


def ce(y, target):
    return -(target * log_softmax(y.mean(0))).sum(1).mean()


def tet(y, target, weight, phi=1.0):
    return (1 - weight) * np.mean([ce(y[t : t + 1], target) for t in range(4)]) + weight * np.mean((y - phi) ** 2)


def test_losses_against_their_formulas():
    y, labels = values()
    hard, soft, one_hot = np.eye(3)[labels], smoothed(labels, 0.4), {"tet_lambda": 0.05, "tet_target": "one-hot"}
    for name, settings, given, expected in (
        ("ce", {}, labels, ce(y, hard)),
        ("ce", {}, soft, ce(y, soft)),
        ("ce", {"label_smoothing": 0.4}, labels, ce(y, soft)),
        ("tet", {"tet_lambda": 0.1}, labels, tet(y, hard, 0.1)),
        ("tet", {"tet_lambda": 0.2, "label_smoothing": 0.4}, labels, tet(y, soft, 0.2)),
        ("tet", {"tet_lambda": 0.1}, soft, tet(y, soft, 0.1)),
        ("tet", one_hot, labels, tet(y, hard, 0.05, hard)),
        ("tet", one_hot, soft, tet(y, soft, 0.05, soft)),
        ("mse", {}, labels, np.mean((y.mean(0) - hard) ** 2)),
        ("mse", {}, soft, np.mean((y.mean(0) - soft) ** 2)),
    ):
        found = registry.get("loss", name)(torch.tensor(y), torch.tensor(given), tiny.config(**settings))
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12, err_msg=f"{name} {settings}")


def test_balanced_weights_against_torch():
    """Ten labels of three classes, 5, 3 and 2; in parts of a batch, the losses add up."""
    train = np.array([0, 2, 1, 0, 0, 1, 2, 0, 1, 0])
    weights = torch.tensor([10 / 15, 10 / 9, 10 / 6], dtype=torch.float64)
    torch.testing.assert_close(balanced(train, 3).double(), weights)
    assert balanced(np.array([0, 0, 2]), 3).tolist() == [0.5, 0.0, 1.0]
    y, labels = (torch.tensor(one) for one in values())
    config = tiny.config(class_weights="balanced", tet_lambda=0.0)
    each = torch.stack([torch.nn.functional.cross_entropy(y[t], labels, reduction="none") for t in range(4)])
    of_mean = torch.nn.functional.cross_entropy(y.mean(0), labels, reduction="none")
    for name, own in (("ce", of_mean), ("tet", each.mean(0))):
        loss = of_run(config.replace(loss=name), train, 3)
        torch.testing.assert_close(loss(y, labels), (weights[labels] * own).mean())
        parts = 2 * loss(y[:, :2], labels[:2]) + 3 * loss(y[:, 2:], labels[2:])
        torch.testing.assert_close(parts / 5, loss(y, labels))
        certain = torch.nn.functional.one_hot(labels, 3).double()
        torch.testing.assert_close(loss(y, certain), loss(y, labels))


@pytest.mark.parametrize(
    ("arch", "changes"), [("vggsnn", {}), ("resnet19", {}), ("resnet19", {"residual": "sew"}), ("mlp", {})]
)
def test_the_penalty_of_firing_rates(arch, changes):
    """Against rates that hooks on the neurons themselves see, and with the gradient of a step."""
    torch.manual_seed(0)
    net = models.build(arch, T=3, input_size=16, width_multiplier=1 / 16, **changes).train()
    config = tiny.config(rate_target=0.1, rate_weight=2.0)
    x = torch.rand(3, 4, net.spec.in_channels, 16, 16)
    with observed_rates(net, config) as rates:
        net(x)
    seen = []
    handles = [
        layer.lif.register_forward_hook(lambda *call: seen.append(call[2].mean().item())) for layer in net.spiking_layers()
    ]
    net(x)
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(sorted(rate.item() for rate in rates), sorted(seen), rtol=1e-5)
    expected = 2 * sum(max(0.0, rate - 0.1) ** 2 for rate in seen)
    assert expected > 0
    penalty = rate_penalty(rates, config)
    np.testing.assert_allclose(penalty.item(), expected, rtol=1e-4)
    penalty.backward()
    assert net.spiking_layers()[0].synapse.weight.grad.abs().sum() > 0


def test_a_step_lowers_the_rates():
    rates = {}
    for target in (None, 0.01):
        torch.manual_seed(0)
        net = models.build("vggsnn", T=3, input_size=16, width_multiplier=1 / 16, num_classes=3).train()
        config = tiny.config(rate_target=target, rate_weight=30.0)
        batch = Batch(torch.rand(3, 8, net.spec.in_channels, 16, 16), torch.arange(8) % 3, 0)
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        for _ in range(20):
            gradients(net, batch, config, Compute(torch.device("cpu")))
            optimizer.step()
            optimizer.zero_grad()
        with observed_rates(net, tiny.config(rate_target=0.5)) as found:
            net(batch.x)
        rates[target] = sum(found).item()
    assert rates[0.01] < 0.7 * rates[None]


CPU = Compute(torch.device("cpu"))


@pytest.mark.parametrize("changes", [{"arch": "vggsnn"}, {"arch": "resnet19"}, {"arch": "resnet19", "residual": "sew"}])
def test_evaluation_is_that_of_the_network(changes):
    bundle = tiny.bundle()
    model = new_model(tiny.config(**changes), 3, 2)
    x = torch.from_numpy(bundle.test.x).float().transpose(0, 1)
    for _ in range(3):
        model(x)  # running statistics
    before = copy.deepcopy(model.state_dict())
    result = evaluate(model, bundle.test, bundle, CPU, batch_size=len(bundle.test), also=("firing_rate",))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    rates = {}
    for layer in model.eval().spiking_layers():
        layer.lif.register_forward_hook(
            lambda module, arguments, spikes, name=layer.name: rates.update({name: spikes.mean().item()})
        )
    with torch.no_grad():
        mean = model(x).mean(0)
    labels = torch.from_numpy(bundle.test.y)
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(mean, labels).item(), rel=1e-3)
    assert int(result.confusion.diagonal().sum()) == int((mean.argmax(1) == labels).sum())
    assert result.firing_rate == pytest.approx(rates, abs=1e-3)
    assert max(rates.values()) > 0.05


def test_scores_by_hand():
    """Of 4 classes, the third is never predicted, and the last has neither samples nor predictions."""
    confusion = torch.tensor([[3, 1, 0, 0], [2, 4, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    result = Evaluation(confusion, torch.zeros(12, 3), 0.5, {}, 1.0)
    assert result.scores() == {
        "precision": [pytest.approx(3 / 6), pytest.approx(4 / 6), 0.0, None],
        "recall": [pytest.approx(3 / 4), pytest.approx(4 / 6), 0.0, None],
        "f1": [pytest.approx(6 / 10), pytest.approx(8 / 12), 0.0, None],
    }
    macro = {"precision": 7 / 18, "recall": 17 / 36, "f1": 19 / 45}
    assert result.averages() == pytest.approx(macro)  # no top-5 accuracy of 4 classes
    record = result.record(("a", "b", "c", "d"))
    assert record["scores"]["f1"] == {"a": pytest.approx(0.6), "b": pytest.approx(2 / 3), "c": 0.0, "d": None}
    assert {name: record[name] for name in macro} == pytest.approx(macro)
    assert record["per_class"] == {"a": 0.75, "b": pytest.approx(2 / 3), "c": 0.0, "d": None}


def test_answers_by_hand():
    """Of equal logits the first class counts, so that a network without spikes has the accuracy of a constant."""
    bundle = replace(tiny.bundle(), classes=tuple(map(str, range(20))))
    part = replace(bundle.test, y=np.array([0, 4, 5, 19, 7, *[1] * 10]))
    logits = torch.zeros(2, 15, 20)
    logits[:, 3, 19] = 2.0  # right
    logits[:, 4, [1, 2, 3, 4, 5]] = 1.0  # label 7 is the 8th
    logits[0, 4, 1] = 3.0  # the mean over timesteps counts
    logits[1, 4, 1] = 0.0
    logits[:, 5:, 2] = 1.0  # label 1 is the third

    answers = iter(logits.split(4, dim=1))
    result = measure(lambda x: next(answers), part, bundle, batch_size=4)
    predictions, probabilities, ranks = result.answers.T.tolist()
    assert predictions == [0, 0, 0, 19, 1, *[2] * 10]
    assert ranks == [0, 4, 5, 0, 7, *[2] * 10]
    e = math.e
    expected = [1 / 20, 1 / 20, 1 / 20, e**2 / (e**2 + 19), e**1.5 / (e**1.5 + 4 * e + 15), *[e / (e + 19)] * 10]
    assert probabilities == pytest.approx(expected, rel=1e-6)
    assert result.accuracy == 2 / 15
    assert result.averages()["top5_accuracy"] == 13 / 15
    shares = [result.answers[rank::4] for rank in range(4)]  # 4, 4, 4 and 3 samples of four processes

    def gather(x):
        """Every process has the same count and sum, as if each had the same samples."""
        if x.shape[1:] != (3,):
            return x[None]
        return torch.stack([F.pad(share, (0, 0, 0, len(shares[0]) - len(share))) for share in shares])

    whole = replace(result, answers=shares[0]).gathered(gather)
    assert torch.equal(whole.answers, result.answers)
