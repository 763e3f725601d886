import numpy as np
import pytest

from lsgcli.data.camera import Camera, simulate

IMAGE = np.zeros((24, 20))
IMAGE[8:16, 6:14] = 1.0


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def test_inside_the_sensor_and_in_order():
    events = simulate(IMAGE, rng(), Camera(duration_us=200_000))
    assert events.sensor == (20, 24)
    assert events.x.max() < 20
    assert events.y.max() < 24
    assert events.t.min() >= 0
    assert events.t.max() <= 200_000
    assert (np.diff(events.t) >= 0).all()


def test_events_are_the_change_of_log_intensity():
    """Without noise and with equal thresholds, ON minus OFF of each pixel is what its log intensity gained, in thresholds."""
    steps = []
    for frames in (2, 30, 301):
        events = simulate(IMAGE, rng(), Camera(sigma=0.0, noise=0.0, frames=frames))
        net = np.zeros((24, 20), int)
        np.add.at(net, (events.y, events.x), np.where(events.on, 1, -1))
        steps.append(len(events))
        assert np.abs(net).max() <= 1  # the path is closed
    assert steps[0] == 0 or steps[0] < steps[1]
    assert steps[2] == pytest.approx(steps[1], rel=0.2)


def test_more_loops_give_more_of_the_same():
    """Each time around gives the same crossings, but for what the references keep from the time before."""
    once = simulate(IMAGE, rng(), Camera(frames=25, noise=0.0))
    thrice = simulate(IMAGE, rng(), Camera(frames=73, noise=0.0, loops=3, duration_us=900_000))
    assert len(thrice) == pytest.approx(3 * len(once), rel=0.02)
    last = thrice.t >= 600_000
    assert np.count_nonzero(last) == pytest.approx(len(once), rel=0.02)


def test_what_comes_in_at_the_edges():
    """A grey card: before darkness its edges move, as a part of a larger grey card nothing does."""
    card = np.full((16, 16), 0.5)
    dark = simulate(card, rng(), Camera(noise=0.0))
    assert len(dark) > 100
    assert (np.minimum.reduce([dark.x, dark.y, 15 - dark.x, 15 - dark.y]) <= 4).all()
    assert len(simulate(card, rng(), Camera(noise=0.0, around="edge"))) == 1  # the one that every recording has


def test_shifts_against_scipy():
    """Half of it again, with another interpolator: bilinear shifts of an image in darkness."""
    from scipy.ndimage import shift

    from lsgcli.data.camera import _shifted

    image = np.random.default_rng(0).random((12, 9)).astype(np.float32)
    rows, columns = np.array([0.0, 1.25, -2.5, 0.75]), np.array([0.0, -0.5, 1.0, 2.125])
    for found, down, right in zip(_shifted(image, rows, columns, "constant"), rows, columns, strict=True):
        expected = shift(image, (-down, -right), order=1, mode="grid-constant")
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_times_by_hand():
    """One pixel goes from 0 to 2.5 to -0.5 thresholds: crossings of 1, 2 upwards, then of 1, 0 downwards."""
    from lsgcli.data.camera import _crossings, _events

    level = np.array([[0.0], [2.5], [-0.5]], np.float32)
    steps, before = _crossings(level.copy())
    assert steps.tolist() == [[2], [-2]]
    events = _events(level, steps, before, (1, 1), Camera(2000, noise=0.0), rng())
    assert events.t.tolist() == [400, 800, 1500, 1833]  # 1/2.5, 2/2.5, then 1.5/3 and 2.5/3 of the way
    assert events.on.tolist() == [True, True, False, False]
