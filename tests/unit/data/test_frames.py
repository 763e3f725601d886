import numpy as np
import pytest
import torch

from lsgcli.config.data import DataConfig
from lsgcli.config.run import FIELDS
from lsgcli.data.events import Events, turned, turned_sensor
from lsgcli.data.frames import frames
from lsgcli.errors import DataError


def made(count, width, height, seed=0, last=1_000_000):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, count).astype(np.uint16), rng.integers(0, height, count).astype(np.uint16)
    return Events(x, y, np.sort(rng.integers(0, last, count)), rng.random(count) < 0.5)


def make(events, T, size, sensor, slicing="count", resize="bin", draw=0.0, **settings):
    return frames(events, sensor, DataConfig(T=T, size=size, slicing=slicing, resize=resize, **settings), draw=draw)


def by_loop(events, T, size, sensor, slice_of):
    """Counts by one event after the other; ``slice_of(i, t)`` is the slice of event i, None where it has none."""
    side = max(sensor)
    left, top = (side - sensor[0]) // 2, (side - sensor[1]) // 2
    out = np.zeros((T, 2, size, size), int)
    for i in range(len(events)):
        k = slice_of(i, int(events.t[i]))
        if k is not None:
            row, column = (int(events.y[i]) + top) * size // side, (int(events.x[i]) + left) * size // side
            out[k, 0 if events.on[i] else 1, row, column] += 1
    return out


def slicer(slicing, events, T):
    n, start, span = len(events), int(events.t[0]), int(events.t[-1] - events.t[0]) + 1
    by_count = lambda i, t: next(k for k in range(T) if k * n // T <= i < (k + 1) * n // T)  # noqa: E731
    by_time = lambda i, t: max(k for k in range(T) if start + span * k // T <= t)  # noqa: E731
    return {"count": by_count, "time": by_time}[slicing]


@pytest.mark.parametrize("slicing", ["count", "time"])
@pytest.mark.parametrize(("T", "size", "sensor"), [(1, 16, (16, 16)), (7, 11, (34, 34)), (10, 16, (40, 24)), (3, 40, (24, 32))])
@pytest.mark.parametrize("count", [997, 3])
def test_equal_to_a_plain_loop(slicing, T, size, sensor, count):
    events = made(count, *sensor)
    found = make(events, T, size, sensor, slicing)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_loop(events, T, size, sensor, slicer(slicing, events, T)))
    assert found.sum() == len(events)


@pytest.mark.parametrize(("start", "draw", "begin"), [("first", 0.9, 0), ("middle", 0.9, 0.5), ("random", 0.25, 0.25)])
def test_windows(start, draw, begin):
    """T windows of a fixed length, one after the other; what lies outside is left out."""
    events, T, length = made(2000, 16, 16, last=100_000), 4, 7000
    first = int(events.t[0]) + int(begin * (int(events.t[-1]) - int(events.t[0]) + 1 - T * length))

    def slice_of(i, t):
        k = (t - first) // length
        return k if 0 <= k < T else None

    found = make(events, T, 16, (16, 16), "window", window_us=length, window_start=start, draw=draw)
    np.testing.assert_array_equal(found, by_loop(events, T, 16, (16, 16), slice_of))
    assert 0 < found.sum() < len(events)


@pytest.mark.parametrize("start", ["first", "middle", "random"])
def test_windows_longer_than_the_recording(start):
    events = made(50, 8, 8, last=900)
    found = make(events, 3, 8, (8, 8), "window", window_us=1000, window_start=start, draw=0.7)
    assert found[0].sum() == 50
    assert found[1:].sum() == 0


@pytest.mark.parametrize("n", [65_535, 65_536, 70_000])
def test_a_pixel_that_fires_without_end(n):
    same = np.zeros(n, np.uint16)
    events = Events(same, same, np.arange(n), same == 0)
    assert make(events, 1, 4, (4, 4))[0, 0, 0, 0] == 255
    assert make(events, 1, 4, (4, 4), value="log1p")[0, 0, 0, 0] == np.float16(np.log(n + 1.0))


@pytest.mark.parametrize("sensor", [(181, 181), (182, 182), (1280, 720)])
def test_cells_beyond_16_bits(sensor):
    """Just what still fits into small numbers, and what does not: at the furthest pixel."""
    width, height = sensor
    events = Events(
        np.array([width - 1], np.uint16), np.array([height - 1], np.uint16), np.zeros(1, np.int64), np.array([False])
    )
    for size, resize in ((max(sensor), "bin"), (48, "bin"), (100, "centre")):
        found = make(events, 1, size, sensor, resize=resize)
        if resize == "bin":
            assert found[0, 1].sum() == 1
            assert found[0, 1].reshape(-1).argmax() // size == (height - 1 + (width - height) // 2) * size // width
        else:
            assert found.sum() == 0


@pytest.mark.parametrize(
    ("resize", "mode"),
    [
        ("bilinear", {"mode": "bilinear", "antialias": True}),
        ("bilinear-aliased", {"mode": "bilinear", "align_corners": False}),
        ("nearest", {"mode": "nearest"}),
    ],
)
@pytest.mark.parametrize(("size", "sensor"), [(48, (128, 128)), (17, (40, 24)), (32, (34, 34)), (30, (12, 20)), (24, (24, 24))])
def test_interpolation_is_torchs(resize, mode, size, sensor):
    events, T = made(3000, *sensor), 3
    full = by_loop(events, T, max(sensor), sensor, slicer("count", events, T))
    expected = torch.nn.functional.interpolate(torch.tensor(full, dtype=torch.float64), (size, size), **mode).numpy()
    found = make(events, T, size, sensor, resize=resize)
    assert found.dtype == (np.uint8 if resize == "nearest" else np.float16)
    np.testing.assert_allclose(found.astype(float), expected, rtol=1e-3, atol=1e-3)  # float16 has 11 bits


@pytest.mark.parametrize("resize", ["bin", "bilinear", "nearest", "centre"])
@pytest.mark.parametrize("normalise", ["none", "frame", "sample"])
@pytest.mark.parametrize("value", ["count", "binary", "log1p"])
def test_values_and_normalisation(resize, normalise, value):
    events, T, side = made(1500, 16, 16), 4, 16
    events = events[events.y >= 8]  # an unequal picture, so that a frame's maximum is not the other's
    counts = by_loop(events, T, side, (side, side), slicer("count", events, T)).astype(float)
    valued = {"count": counts, "binary": counts > 0, "log1p": np.log1p(counts)}[value].astype(float)
    most = {"none": 1.0, "frame": valued.max((1, 2, 3), keepdims=True), "sample": valued.max()}[normalise]
    found = make(events, T, side, (side, side), resize=resize, value=value, normalise=normalise)
    np.testing.assert_allclose(found.astype(float), valued / most, rtol=1e-3)
    whole = value != "log1p" and normalise == "none" and resize != "bilinear"
    assert found.dtype == (np.uint8 if whole else np.float16)


def test_binary_is_taken_before_interpolation():
    """Two events in one pixel of four count as one: a quarter, not a half, of the pixel they become."""
    same = np.zeros(2, np.uint16)
    events = Events(same, same, np.arange(2), same == 0)
    assert make(events, 1, 1, (2, 2), resize="bilinear", value="binary")[0, 0, 0, 0] == 0.25


def test_normalising_an_empty_frame():
    same = np.zeros(2, np.uint16)
    events = Events(same, same, np.array([0, 999]), same == 0)
    found = make(events, 3, 2, (2, 2), "time", normalise="frame")
    assert found[:, 0, 0, 0].tolist() == [1, 0, 1]


def test_a_line_stays_a_line():
    """A sensor of one row, such as 700 cochlea channels, gives frames of one row."""
    events = Events(np.array([0, 4, 5, 9], np.uint16), np.zeros(4, np.uint16), np.arange(4), np.ones(4, bool))
    found = make(events, 2, 2, (10, 1))
    assert found.shape == (2, 2, 1, 2)
    assert found[:, 0, 0].tolist() == [[2, 0], [0, 2]]
    assert make(events, 2, 10, (10, 1), resize="bilinear")[:, 0, 0].sum(1).tolist() == [2, 2]
    assert make(events, 1, 5, (10, 1), resize="nearest").shape == (1, 2, 1, 5)
    assert make(events, 1, 5, (10, 1), resize="bilinear").shape == (1, 2, 1, 5)
    assert make(events, 1, 6, (10, 1), resize="centre")[0, 0, 0].tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("sensor", [(20, 32), (32, 20)])
def test_events_outside_the_sensor(sensor):
    with pytest.raises(DataError, match=r"cup: event \d+: found x=.*, expected x below \d+ and y below \d+ of the sensor"):
        frames(made(100, 32, 32), sensor, DataConfig(T=2, size=8), name="cup")
    with pytest.raises(DataError, match="no events"):
        make(made(9, 8, 8)[:0], 2, 8, (8, 8))


def test_a_sensor_too_large_to_count_at_full_size():
    events = made(100, 32, 32)
    with pytest.raises(DataError, match="sensor of 65535x65535") as caught:
        make(events, 2, 8, (65535, 65535), resize="bilinear")
    assert "--resize bin" in caught.value.hint
    assert make(events, 2, 8, (65535, 65535)).sum() == 100


@pytest.mark.parametrize(("size", "sensor"), [(32, (34, 34)), (16, (40, 24)), (48, (34, 34)), (21, (34, 20))])
def test_centre_is_the_full_frame_cut_or_padded(size, sensor):
    events = made(997, *sensor)
    found = make(events, 5, size, sensor, resize="centre")
    side = max(*sensor, size)
    full, slice_of = np.zeros((5, 2, side, side), int), slicer("count", events, 5)
    for i in range(len(events)):
        k = slice_of(i, 0)
        place = [int(v) + (size - length) // 2 for v, length in zip((events.y[i], events.x[i]), sensor[::-1], strict=True)]
        if all(0 <= v < size for v in place):
            full[k, 0 if events.on[i] else 1, place[0], place[1]] += 1
    np.testing.assert_array_equal(found, full[..., :size, :size])


# What numpy does to a picture (H, W), for each name.
PICTURES = {
    "upright": lambda a: a,
    "mirrored": np.fliplr,
    "upside-down": np.flipud,
    "rotated-180": lambda a: np.rot90(a, 2),
    "rotated-90": lambda a: np.rot90(a, -1),  # numpy turns counterclockwise
    "rotated-270": np.rot90,
    "transposed": np.transpose,
    "anti-transposed": lambda a: np.rot90(a, 2).T,
}


@pytest.mark.parametrize("name", FIELDS["orientation"].metadata["choices"])
def test_as_numpy_turns_a_picture(name):
    width, height = 5, 3
    y, x = np.divmod(np.arange(width * height), width)
    events = Events(x.astype(np.uint16), y.astype(np.uint16), np.arange(width * height), x > 2, (width, height))
    found = turned(events, (width, height), name)
    picture = PICTURES[name](np.arange(width * height).reshape(height, width))
    assert turned_sensor((width, height), name) == picture.shape[::-1] == found.sensor
    assert [picture[y, x] for x, y in zip(found.x, found.y, strict=True)] == found.t.tolist()
    assert found.x.dtype == found.y.dtype == np.uint16
    np.testing.assert_array_equal(found.on, events.on)
