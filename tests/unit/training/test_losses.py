"""The losses against their formulas in numpy."""

import numpy as np
import pytest
import torch

from lsgcli import models, registry
from lsgcli.data.batches import Batch
from lsgcli.system.device import Compute
from lsgcli.training.losses import balanced, observed_rates, of_run, rate_penalty
from lsgcli.training.step import gradients
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


def test_mixed_labels_give_the_mixed_loss():
    """Every loss is linear in the labels, up to a constant for the mean squared error."""
    y, labels = values()
    other = np.roll(labels, 1)
    mixed = 0.3 * np.eye(3)[labels] + 0.7 * np.eye(3)[other]
    config = tiny.config(label_smoothing=0.1)
    for name in ("ce", "tet"):
        of, other_of, found = (
            registry.get("loss", name)(torch.tensor(y), torch.tensor(one), config).item() for one in (labels, other, mixed)
        )
        np.testing.assert_allclose(found, 0.3 * of + 0.7 * other_of, rtol=1e-12)


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
