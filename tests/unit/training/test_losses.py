"""The losses against their formulas in numpy."""

import numpy as np
import torch

from lsgcli import registry
from tests import tiny


def log_softmax(y):
    return y - np.log(np.exp(y).sum(-1, keepdims=True))


def values(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 5, 3)), rng.integers(0, 3, 5)


def test_ce_is_of_the_mean_logits():
    y, labels = values()
    expected = -log_softmax(y.mean(0))[np.arange(5), labels].mean()
    found = registry.get("loss", "ce")(torch.tensor(y), torch.tensor(labels), tiny.config())
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_tet_asks_every_step():
    y, labels = values()
    every = np.mean([-log_softmax(y[t])[np.arange(5), labels].mean() for t in range(4)])
    expected = 0.9 * every + 0.1 * np.mean((y - 1.0) ** 2)
    found = registry.get("loss", "tet")(torch.tensor(y), torch.tensor(labels), tiny.config(tet_lambda=0.1))
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_tet_with_one_hot_targets():
    y, labels = values()
    for target, given in ((np.eye(3)[labels], labels), (smoothed(labels, 0.4), smoothed(labels, 0.4))):
        every = np.mean([-(target * log_softmax(y[t])).sum(1).mean() for t in range(4)])
        expected = 0.95 * every + 0.05 * np.mean([(y[t] - target) ** 2 for t in range(4)])
        config = tiny.config(loss="tet", tet_lambda=0.05, tet_target="one-hot")
        found = registry.get("loss", "tet")(torch.tensor(y), torch.tensor(given), config)
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def smoothed(labels, epsilon):
    return (1 - epsilon) * np.eye(3)[labels] + epsilon / 3


def test_smoothed_labels():
    y, labels = values()
    target, config = smoothed(labels, 0.1), tiny.config(label_smoothing=0.1, tet_lambda=0.2)
    of_mean = -(target * log_softmax(y.mean(0))).sum(1).mean()
    of_each = -(target * log_softmax(y)).sum(2).mean()
    for name, expected in (("ce", of_mean), ("tet", 0.8 * of_each + 0.2 * np.mean((y - 1) ** 2))):
        found = registry.get("loss", name)(torch.tensor(y), torch.tensor(labels), config)
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


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


def test_mse_is_the_distance_to_the_one_hot_label():
    y, labels = values()
    loss = registry.get("loss", "mse")
    for target, given in ((np.eye(3)[labels], labels), (smoothed(labels, 0.4), smoothed(labels, 0.4))):
        found = loss(torch.tensor(y), torch.tensor(given), tiny.config())
        np.testing.assert_allclose(found.item(), np.mean((y.mean(0) - target) ** 2), rtol=1e-12)
