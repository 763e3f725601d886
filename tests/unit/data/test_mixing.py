"""Mixup and CutMix against numpy, for images and frames, in one process and in several."""

import numpy as np
import pytest
import torch

from lsgcli.config.data import DataConfig
from lsgcli.data.batches import Batches, Mixing
from tests import tiny
from tests.unit.data.test_batches import made

OPTIONS = {"seed": 3, "epoch": 1, "shuffle": True, "augment": "flip,erase"}


def pair(static, mixing, batch_size=6, **options):
    """The batches of an epoch, mixed and not mixed."""
    named = {**OPTIONS, "static": static, **options}
    return [list(Batches(made(static=static), batch_size, mixing=one, **named)) for one in (mixing, None)]


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_samples_and_labels_are_mixed_with_the_reversed_batch(static, kind):
    mixing = Mixing(DataConfig(**{kind: 1.0}), 23)
    weights = []
    for mixed, plain in zip(*pair(static, mixing), strict=True):
        draw = mixing.draw(3, 1, mixed.index, (12, 12))
        x = plain.x.numpy() if static else plain.x.numpy().swapaxes(0, 1)
        if kind == "mixup":
            expected = draw.weight * x + (1 - draw.weight) * x[::-1]
        else:
            top, bottom, left, right = draw.box
            expected = x.copy()
            expected[..., top:bottom, left:right] = x[::-1][..., top:bottom, left:right]
            assert draw.weight == pytest.approx(1 - (bottom - top) * (right - left) / 144)
        found = mixed.x.numpy() if static else mixed.x.numpy().swapaxes(0, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        labels = np.eye(23)[plain.y.numpy()]
        np.testing.assert_allclose(mixed.y.numpy(), draw.weight * labels + (1 - draw.weight) * labels[::-1], rtol=1e-6)
        weights.append(draw.weight)
    assert len(set(weights)) == len(weights) == 4


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("batch_size", [6, 7])
def test_several_processes_have_the_batches_of_one(static, batch_size):
    mixing = Mixing(DataConfig(mixup=0.5, cutmix=0.5, mix_prob=0.8), 23)
    whole, plain = pair(static, mixing, batch_size, parts=2)
    shared = [pair(static, mixing, batch_size, parts=2, share=(rank, 2))[0] for rank in range(2)]
    assert any(not torch.equal(a.x, b.x) for a, b in zip(whole, plain, strict=True))
    for index, batch in enumerate(whole):
        n, axis = len(batch.y), 0 if static else 1
        halves = [np.array_split(part, 2) for part in np.array_split(np.arange(n), 2)]
        for rank in range(2):
            own = np.concatenate([half[rank] for half in halves])
            assert torch.equal(shared[rank][index].y, batch.y[own])
            assert torch.equal(shared[rank][index].x, batch.x.index_select(axis, torch.from_numpy(own)))


def test_draws():
    both, rare = (Mixing(DataConfig(mixup=0.5, **changes), 3) for changes in ({"cutmix": 1.0}, {"mix_prob": 0.3}))
    draws = [both.draw(0, 0, index, (12, 12)) for index in range(1000)]
    assert draws == [both.draw(0, 0, index, (12, 12)) for index in range(1000)]
    assert draws != [both.draw(0, 1, index, (12, 12)) for index in range(1000)]
    assert np.mean([draw.box is None for draw in draws]) == pytest.approx(0.5, abs=0.05)
    weights = [draw.weight for draw in draws if draw.box is None]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.05)
    assert np.var(weights) == pytest.approx(1 / 8, abs=0.02)  # of Beta(0.5, 0.5)
    assert np.mean([rare.draw(0, 0, index, (12, 12)) is None for index in range(1000)]) == pytest.approx(0.7, abs=0.05)


def test_mixing_ends():
    config = tiny.config(mixup=0.5, mix_prob=1.0, mix_until=2)
    draws = [Mixing(config, 3).draw(0, epoch, 0, (8, 8)) is not None for epoch in range(3)]
    assert draws == [True, True, False]
    assert Mixing(tiny.config(), 3).draw(0, 0, 0, (8, 8)) is None
    assert Mixing(DataConfig(cutmix=1.0), 3).draw(0, 10**6, 0, (8, 8)) is not None
