"""Frames in other orders against numpy, and the differences in accuracy against scipy's paired t test."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from lsgcli.data.batches import batches
from lsgcli.errors import ConfigError
from lsgcli.sweeps.order import DRAWS, altered, time_test
from lsgcli.training.evaluate import Evaluation
from tests import tiny


def frames(bundle, split):
    """(N, T, 2, S, S) of a split, as its batches have them."""
    return torch.cat([batch.x.transpose(0, 1) for batch in batches(bundle, split, 4)]).numpy()


def test_orders():
    bundle = tiny.bundle()
    split = bundle.test.part(np.arange(3, 13))
    x, found = frames(bundle, split), altered(bundle, split)
    assert np.array_equal(frames(bundle, found["reversed"][0]), x[:, ::-1])
    mean = frames(bundle, found["mean"][0])
    np.testing.assert_allclose(mean, np.repeat(x.mean(1, keepdims=True), 3, axis=1), rtol=1e-6)
    draws = [frames(bundle, one) for one in found["random"]]
    assert len(draws) == DRAWS
    moved = set()
    for draw in draws:
        for before, after in zip(x, draw, strict=True):
            order = [int(np.flatnonzero((before == frame).all((1, 2, 3)))[0]) for frame in after]
            assert sorted(order) == [0, 1, 2]
            moved.add(tuple(order))
    assert len(moved) == 6  # in 50 draws of 6 orders
    again = frames(bundle, altered(bundle, bundle.test)["random"][0])[3:13]
    assert np.array_equal(again, draws[0])  # whatever other samples there are


@pytest.mark.parametrize("kind", ["images", "one frame"])
def test_there_must_be_an_order(kind):
    bundle = tiny.image_bundle() if kind == "images" else tiny.bundle()
    split = bundle.test if kind == "images" else dataclasses.replace(bundle.test, x=bundle.test.x[:, :1])
    with pytest.raises(ConfigError, match=r"^--time-test: found .*"):
        altered(bundle, split)


def test_differences_are_those_of_a_paired_t_test():
    split = tiny.bundle().test
    rng = np.random.default_rng(0)

    def evaluation(right):
        answers = torch.tensor(np.where(right, split.y, split.y + 1))[:, None].double()
        return Evaluation(torch.diag(torch.tensor([int(right.sum()), 0])), answers, 0.0, {}, 1.0)

    correct = rng.random(len(split)) < 0.8
    draws = [rng.random(len(split)) < 0.5 for _ in range(5)]
    others = {"random": list(map(evaluation, draws)), "reversed": [evaluation(correct)]}
    found = time_test(split, evaluation(correct), others)["frames"]
    shares = np.mean(draws, 0)
    interval = stats.ttest_rel(shares, correct).confidence_interval(0.95)
    assert found["random"]["accuracy"] == pytest.approx(shares.mean())
    assert found["random"]["difference"] == pytest.approx(shares.mean() - correct.mean())
    assert found["random"]["interval"] == pytest.approx(list(interval))
    assert (found["reversed"]["difference"], found["reversed"]["interval"]) == (0, None)
