import numpy as np
import pytest

from lsgcli import registry
from lsgcli.data.augment import chain, whole
from lsgcli.errors import ConfigError

NAMES = registry.names("augmentation")


def made(static, dtype=np.uint8, side=20):
    shape = (6, 3, side, side) if static else (6, 4, 2, side, side)
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def draws(one, batch=6, seed=1):
    return np.random.default_rng(seed).random((batch, one.n))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("static", [True, False])
def test_contract(name, static):
    one = registry.get("augmentation", name)
    if one.images_only and not static:
        with pytest.raises(ConfigError, match=name):
            chain(name, static)
        return
    x, u = made(static), draws(one)
    before = x.copy()
    found = one(x, u)
    np.testing.assert_array_equal(x, before)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    # A sample's result does not depend on who else is in the batch.
    np.testing.assert_array_equal(one(x[2:3], u[2:3])[0], found[2])
    assert not np.array_equal(found, x)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "autoaugment"])
def test_timesteps_move_together(name):
    one = registry.get("augmentation", name)
    x = np.repeat(made(False)[:, :1, :1], 4, axis=1).repeat(2, axis=2)
    found = one(x, draws(one))
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))


def test_flip():
    x = made(True)
    found = registry.get("augmentation", "flip")(x, np.array([[0.49], [0.5], [0.0], [0.99], [0.2], [0.7]]))
    for i, flipped in enumerate([True, False, True, False, True, False]):
        np.testing.assert_array_equal(found[i], x[i, :, :, ::-1] if flipped else x[i])


@pytest.mark.parametrize("seed", range(3))
def test_roll_is_numpys_roll(seed):
    one, x = registry.get("augmentation", "roll"), made(False)
    u = draws(one, seed=seed)
    found, shift = one(x, u), whole(u, -5, 5)
    for i in range(len(x)):
        np.testing.assert_array_equal(found[i], np.roll(x[i], tuple(shift[i]), axis=(-2, -1)))


@pytest.mark.parametrize("seed", range(3))
def test_crop_is_a_window_of_the_padded_image(seed):
    one, x = registry.get("augmentation", "crop"), made(True)
    u = draws(one, seed=seed)
    found, shift = one(x, u), whole(u, -4, 4)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    for i, (down, right) in enumerate(shift):
        np.testing.assert_array_equal(found[i], padded[i, :, 4 - down : 24 - down, 4 - right : 24 - right])


def test_cutout_is_one_square():
    one = registry.get("augmentation", "cutout")
    found = one(np.ones((2, 3, 40, 40), np.float32), np.array([[0.5, 0.5], [0.0, 0.999]]))
    assert (found[0, 0] == 0).sum() == 16 * 16
    assert (found[0, 0, 12:28, 12:28] == 0).all()
    assert (found[1, 0] == 0).sum() == 8 * 9
    assert (found[1, 0, :8, 31:] == 0).all()


def test_rotate():
    one, x = registry.get("augmentation", "rotate"), made(True)
    np.testing.assert_array_equal(one(x, np.full((6, 1), 0.5)), x)
    turned = one(np.ones((1, 1, 41, 41), np.uint8), np.array([[0.0]]))
    assert turned[0, 0, 20, 20] == 1
    assert turned[0, 0, 0, 0] == 0


def test_moves_are_equally_likely():
    shift = whole(np.random.default_rng(0).random(22000), -5, 5)
    counts = np.bincount(shift + 5)
    assert len(counts) == 11
    assert np.abs(counts / 2000 - 1).max() < 0.1


def test_chain():
    assert [one.name for one in chain("crop,flip", True)] == ["crop", "flip"]
    assert chain("none", True) == chain(None, True) == ()
    with pytest.raises(ConfigError, match="flip"):
        chain("flipp", True)
