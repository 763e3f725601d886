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
