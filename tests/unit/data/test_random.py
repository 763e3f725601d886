import numpy as np
import pytest

from lsgcli.data import random
from lsgcli.data.bundle import Split
from lsgcli.data.prepare import hold_out

KNOWN_IDS = [16477560899283634009, 9407870976149377255]
KNOWN_UNIFORMS = [[0.333298821903534, 0.6872514684919475], [0.9503641947614733, 0.4921368452945143]]


def split(counts, prefix=""):
    y = np.repeat(np.arange(len(counts)), counts)
    keys = [f"{prefix}{label}/{i}" for label, count in enumerate(counts) for i in range(count)]
    return Split(np.arange(len(y))[:, None], y, random.ids(keys), keys)


def test_known_values():
    """Order and augmentation of an old run must not change with a new version."""
    ids = random.ids(["train/cat/0001.png", "7"])
    assert ids.tolist() == KNOWN_IDS
    np.testing.assert_array_equal(random.uniforms(3, 5, ids, 2, "flip"), KNOWN_UNIFORMS)


def test_uniforms_are_uniform():
    u = random.uniforms(0, 0, random.ids([str(i) for i in range(20000)]), 4, "a")
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert np.abs(counts / 4000 - 1).max() < 0.08
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03


def test_order_is_a_permutation_and_new_every_epoch():
    ids = random.ids([str(i) for i in range(1000)])
    first, second = random.order(0, 0, ids), random.order(0, 1, ids)
    assert sorted(first) == list(range(1000))
    assert (first != second).mean() > 0.9
    np.testing.assert_array_equal(first, random.order(0, 0, ids))


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, [10, 1, 1, 0]), (0.25, [25, 2, 1, 0]), (0.99, [99, 6, 1, 0])])
def test_validation_is_stratified(fraction, expected):
    train, val = hold_out(split([100, 7, 2, 1]), fraction, 0)
    assert np.bincount(val.y, minlength=4).tolist() == expected
    assert not set(train.keys) & set(val.keys)
    assert len(train) + len(val) == 110
    np.testing.assert_array_equal(np.asarray(val.x)[:, 0], [split([100, 7, 2, 1]).keys.index(key) for key in val.keys])


def test_validation_is_chosen_by_the_key_not_the_place():
    whole = split([40, 40])
    mixed = whole.part(np.random.default_rng(0).permutation(80))
    assert set(hold_out(whole, 0.2, 5)[1].keys) == set(hold_out(mixed, 0.2, 5)[1].keys)
    assert set(hold_out(whole, 0.2, 5)[1].keys) != set(hold_out(whole, 0.2, 6)[1].keys)
    assert hold_out(whole, 0.0, 0) == (whole, None)
