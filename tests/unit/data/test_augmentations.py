import numpy as np
import pytest
from PIL import Image

from lsgcli import registry
from lsgcli.data.augment import chain, turning, warped, whole
from lsgcli.errors import ConfigError
from tests import tiny

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
    x, u = made(static), draws(one, seed=3)
    before = x.copy()
    found = one(x, u)
    np.testing.assert_array_equal(x, before)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    # A sample's result does not depend on who else is in the batch.
    np.testing.assert_array_equal(one(x[2:3], u[2:3])[0], found[2])
    assert not np.array_equal(found, x)


@pytest.mark.parametrize("name", [name for name in NAMES if not registry.get("augmentation", name).images_only])
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


def test_a_quarter_turn_is_numpys():
    x = made(True, side=9)
    np.testing.assert_array_equal(warped(x, turning(np.full(6, np.pi / 2))), np.rot90(x, 1, axes=(3, 2)))


def test_a_shear_moves_rows_by_their_distance_from_the_middle():
    x, matrix = made(True, side=9), np.tile(np.array([[1.0, 0.0], [1.0, 1.0]]), (6, 1, 1))
    found = warped(x, matrix)
    for row in range(9):
        shift = row - 4  # a pixel comes from `shift` columns further right
        inside = [c for c in range(9) if 0 <= c + shift < 9]
        np.testing.assert_array_equal(found[:, :, row, inside], x[:, :, row, [c + shift for c in inside]])
        assert (np.delete(found[:, :, row], inside, axis=2) == 0).all()


def test_nda_is_one_of_four_moves():
    one, x = registry.get("augmentation", "nda"), made(False, side=24)
    u = np.random.default_rng(0).random((6, 3))
    u[:, 0] = [0.1, 0.1, 0.3, 0.6, 0.8, 0.8]
    found = one(x, u)
    roll = registry.get("augmentation", "roll")
    np.testing.assert_array_equal(found[:2], roll(x[:2], u[:2, 1:]))
    angle = (2 * u[2:3, 1] - 1) * np.pi / 6
    np.testing.assert_array_equal(found[2:3], warped(x[2:3], turning(angle)))
    middle = x[3, :, :, 11:13], found[3, :, :, 11:13]  # the rows that a shear moves least, by less than half a pixel
    np.testing.assert_array_equal(*middle)
    assert not np.array_equal(found[3], x[3])
    for i in (4, 5):
        changed = np.argwhere((found[i] != x[i]).any((0, 1)))
        assert (changed.max(0) - changed.min(0) < 8).all()
        assert (found[i][..., changed[:, 0], changed[:, 1]] == 0).all()


@pytest.mark.parametrize(
    ("name", "probability", "area", "ratio"),
    [("erase", 0.25, (0.02, 0.33), (0.3, 3.3)), ("cutout-area", 0.5, (0.02, 0.4), (0.4, 2.5))],
)
def test_erase_is_one_box_inside(name, probability, area, ratio):
    one, u = registry.get("augmentation", name), np.random.default_rng(0).random((400, 5))
    erased = one(np.ones((400, 1, 30, 20), np.float32), u)[:, 0] == 0
    np.testing.assert_array_equal(erased.any((1, 2)), u[:, 0] < probability)
    areas, ratios = [], []
    for mask in erased[u[:, 0] < probability]:
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        assert mask.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        areas.append(mask.mean())
        ratios.append(len(rows) / len(columns))
    assert 0.5 * area[0] < min(areas) < 2.5 * area[0]
    assert 0.85 * area[1] < max(areas) < 1.12 * area[1]  # sides are whole pixels
    assert 0.8 * ratio[0] < min(ratios) < 2 * ratio[0]
    assert 0.5 * ratio[1] < max(ratios) < 1.25 * ratio[1]


def test_snnaugment_is_one_of_six_moves():
    one, x = registry.get("augmentation", "snnaugment"), made(False, side=24)
    u = np.random.default_rng(0).random((6, 6))
    u[:, 0] = (np.arange(6) + 0.5) / 6
    u[:, 1], u[:, 2] = 28.5 / 31, [0.2, 0.2, 0.2, 0.9, 0.2, 0.2]  # 28 of 30, one of them negative
    found = one(x, u)
    np.testing.assert_array_equal(found[0], x[0])
    matrix = np.array([[[1.0, 0.0], [np.tan(0.28), 1.0]]])
    np.testing.assert_array_equal(found[1:2], warped(x[1:2], matrix))
    np.testing.assert_array_equal(found[2, ..., 4:, :], x[2, ..., :-4, :])
    assert (found[2, ..., :4, :] == 0).all()
    np.testing.assert_array_equal(found[3, ..., :-4], x[3, ..., 4:])
    np.testing.assert_array_equal(found[4:5], warped(x[4:5], turning(np.full(1, np.radians(28)))))
    rows, columns = (found[5] != x[5]).any((0, 1)).nonzero()
    assert (found[5][..., rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 0).all()


@pytest.mark.parametrize("index", range(14))
def test_operations_are_torchvisions(index):
    """At the largest strength of either sign, where ranges differ most."""
    transforms = pytest.importorskip("torchvision.transforms")
    space = transforms.RandAugment()._augmentation_space(31, (20, 20))
    operation, (magnitudes, signed) = list(space.items())[index]
    largest = float(magnitudes[-1]) if magnitudes.ndim else 0.0
    one, x = registry.get("augmentation", "randaugment"), made(True)[:1]
    image = Image.fromarray(x[0].transpose(1, 2, 0))
    for sign in (0.2, 0.8):
        u = np.full((1, one.n), 1 - 1e-9)
        u[0, 0] = 0.1
        u[0, 1], u[0, 3] = (index + 0.5) / 14, sign
        magnitude = -largest if signed and sign > 0.5 else largest
        expected = transforms.autoaugment._apply_op(image, operation, magnitude, transforms.InterpolationMode.NEAREST, None)
        expected = np.asarray(expected, np.float64).transpose(2, 0, 1)
        np.testing.assert_allclose(one(x, u)[0], expected, atol=1)  # torchvision's strengths are rounded to float32


def test_randaugment_has_timms_magnitude_and_probability():
    one, x = registry.get("augmentation", "randaugment"), made(True)
    u = np.full((6, 4), 0.5)
    np.testing.assert_array_equal(one(x, u), x)
    u[:, 0], u[:, 1] = 0.49, 6.5 / 14  # brightness
    expected = np.clip(np.asarray(x, np.float64) * (1 - 0.9 * 0.9), 0, 255)
    np.testing.assert_allclose(one(x, u), expected, atol=1)


def test_moves_are_equally_likely():
    shift = whole(np.random.default_rng(0).random(22000), -5, 5)
    counts = np.bincount(shift + 5)
    assert len(counts) == 11
    assert np.abs(counts / 2000 - 1).max() < 0.1


def test_chain():
    assert [one.name for one in chain("crop,flip", True)] == ["crop", "flip"]
    assert chain("none", True) == chain(None, True) == []
    with pytest.raises(ConfigError, match="flip"):
        chain("flipp", True)


def test_twice_the_same_is_refused():
    """Both would draw the same numbers: two flips would cancel out."""
    with pytest.raises(ConfigError, match="augment: found 'flip,flip'"):
        tiny.config(augment="flip,flip")
