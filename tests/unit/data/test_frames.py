import numpy as np
import pytest

from lsgcli.data.events import Events
from lsgcli.data.frames import frames
from lsgcli.errors import DataError


def made(count, width, height, seed=0, last=1_000_000):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, count).astype(np.uint16), rng.integers(0, height, count).astype(np.uint16)
    return Events(x, y, np.sort(rng.integers(0, last, count)), rng.random(count) < 0.5)


def by_loop(events, T, size, sensor, slicing):
    side = max(sensor)
    left, top = (side - sensor[0]) // 2, (side - sensor[1]) // 2
    out = np.zeros((T, 2, size, size), int)
    n, start, span = len(events), int(events.t[0]), int(events.t[-1] - events.t[0]) + 1
    for i in range(n):
        if slicing == "count":
            k = next(k for k in range(T) if k * n // T <= i < (k + 1) * n // T)
        else:
            k = max(k for k in range(T) if start + span * k // T <= events.t[i])
        row, column = (int(events.y[i]) + top) * size // side, (int(events.x[i]) + left) * size // side
        out[k, 0 if events.on[i] else 1, row, column] += 1
    return out


@pytest.mark.parametrize("slicing", ["count", "time"])
@pytest.mark.parametrize(("T", "size", "sensor"), [(1, 16, (16, 16)), (7, 11, (34, 34)), (10, 16, (40, 24)), (3, 40, (24, 32))])
def test_equal_to_a_plain_loop(slicing, T, size, sensor):
    events = made(997, *sensor)
    found = frames(events, T, size, sensor, slicing)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_loop(events, T, size, sensor, slicing))
    assert found.sum() == len(events)


def test_time_slices_by_hand():
    """Times 0 to 9 in two halves of 5 us each: the border belongs to the second."""
    same = np.zeros(4, np.uint16)
    events = Events(same, same, np.array([0, 4, 5, 9]), same == 0)
    assert frames(events, 2, 1, (1, 1), "time")[:, 0, 0, 0].tolist() == [2, 2]
    assert frames(events, 5, 1, (1, 1), "time")[:, 0, 0, 0].tolist() == [1, 0, 2, 0, 1]


@pytest.mark.parametrize("slicing", ["count", "time"])
def test_fewer_events_than_slices(slicing):
    assert frames(made(3, 8, 8), 10, 8, (8, 8), slicing).sum() == 3


def test_counts_saturate():
    same = np.zeros(300, np.uint16)
    assert frames(Events(same, same, np.arange(300), same == 0), 1, 4, (4, 4))[0, 0, 0, 0] == 255


def test_bilinear_keeps_the_mean_and_has_halves():
    events = made(5000, 32, 32)
    small = frames(events, 2, 16, (32, 32), resize="bilinear")
    assert small.dtype == np.float16
    assert small.shape == (2, 2, 16, 16)
    assert small.astype(float).mean() == pytest.approx(5000 / (2 * 2 * 32 * 32), rel=0.02)
    assert not np.array_equal(small, np.round(small))


@pytest.mark.parametrize("sensor", [(20, 32), (32, 20)])
def test_events_outside_the_sensor(sensor):
    with pytest.raises(DataError, match=r"cup: event \d+ is at .* expected a sensor of"):
        frames(made(100, 32, 32), 2, 8, sensor, name="cup")


def test_no_events():
    none = np.zeros(0, np.int64)
    with pytest.raises(DataError, match="no events"):
        frames(Events(none, none, none, none > 0), 2, 8, (8, 8))


@pytest.mark.parametrize(("size", "sensor"), [(32, (34, 34)), (16, (40, 24)), (48, (34, 34)), (21, (34, 20))])
def test_centre_is_the_full_frame_cut_or_padded(size, sensor):
    events = made(997, *sensor)
    found = frames(events, 5, size, sensor, resize="centre")
    side = max(*sensor, size)
    full = np.zeros((5, 2, side, side), int)
    for i in range(len(events)):
        k = next(k for k in range(5) if k * 997 // 5 <= i < (k + 1) * 997 // 5)
        place = [int(v) + (size - length) // 2 for v, length in zip((events.y[i], events.x[i]), sensor[::-1], strict=True)]
        if all(0 <= v < size for v in place):
            full[k, 0 if events.on[i] else 1, place[0], place[1]] += 1
    np.testing.assert_array_equal(found, full[..., :size, :size])
