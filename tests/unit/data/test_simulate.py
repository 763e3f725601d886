import numpy as np
import pytest

from lsgcli.data.simulate import simulate

IMAGE = np.zeros((24, 20))
IMAGE[8:16, 6:14] = 1.0


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def test_deterministic():
    a, b = simulate(IMAGE, rng()), simulate(IMAGE, rng())
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("x", "y", "t", "on"))
    assert len(simulate(IMAGE, rng(1))) != len(a)


def test_inside_the_sensor_and_in_order():
    events = simulate(IMAGE, rng(), duration_us=200_000)
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
        events = simulate(IMAGE, rng(), sigma=0.0, noise=0.0, frames=frames)
        net = np.zeros((24, 20), int)
        np.add.at(net, (events.y, events.x), np.where(events.on, 1, -1))
        steps.append(len(events))
        assert np.abs(net).max() <= 1  # the path is closed
    assert steps[0] == 0 or steps[0] < steps[1]
    assert steps[2] == pytest.approx(steps[1], rel=0.2)


def test_times_are_interpolated():
    events = simulate(IMAGE, rng(), frames=5, noise=0.0)
    assert len(np.unique(events.t)) > 50


def test_a_blank_image_still_gives_an_event():
    assert len(simulate(np.zeros((8, 8)), rng())) >= 1
