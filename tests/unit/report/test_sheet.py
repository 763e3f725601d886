"""Contact sheets: rows of samples as they are prepared, and the drawn sheet."""

import numpy as np
import pytest
from PIL import Image

from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.data.datasets.base import EventDataset, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.errors import ConfigError, DataError
from lsgcli.report.sheet import (
    OFF,
    ON,
    Row,
    draw,
    event_tiles,
    of_dataset,
    of_paths,
    spread,
    write,
)


def config(**settings):
    return resolve({"dataset": "event-folder", "T": 2, "size": 16, "resize": "bin", **settings}, environment={})


def events(seed=0, count=400, sensor=(128, 128)):
    """More events above than below and left than right, so that every turn is told apart."""
    rng = np.random.default_rng(seed)
    x, y = ((rng.random(count) ** power * side).astype(np.uint16) for side, power in zip(sensor, (2, 3), strict=True))
    return Events(x, y, np.sort(rng.integers(5000, 1_005_000, count)), rng.random(count) < 0.5, sensor)


def save(path, made):
    np.savez(path, x=made.x, y=made.y, t=made.t, p=made.on, sensor=made.sensor)


def test_recordings_are_turned(tmp_path):
    save(tmp_path / "other.npz", events())
    (other,) = of_paths([tmp_path / "other.npz"], config(), 8)
    (mirrored,) = of_paths([tmp_path / "other.npz"], config(orientation="mirrored"), 1)
    np.testing.assert_array_equal(mirrored.tiles[1], other.tiles[1][:, ::-1])


def test_a_data_set_is_shown_as_it_is_prepared(tmp_path):
    for split in ("train", "test"):
        for name in ("cup", "pen"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                save(tmp_path / split / name / f"{i}.npz", events(i + len(name)))
    chosen = config(data_dir=str(tmp_path), value="log1p", normalise="sample", resize="bilinear")
    dataset = registry.get("dataset", "event-folder")(chosen)
    listing = dataset.scan()
    rows = of_dataset(dataset, 4)
    assert [row.label for row in rows] == ["cup", "cup", "pen", "pen"]
    by_key = {sample.key: sample for sample in listing.samples}
    for row in rows:
        expected = event_tiles(dataset.load(by_key[row.key]))
        for tile, other in zip(row.tiles, expected, strict=True):
            np.testing.assert_array_equal(tile, other)


def test_a_sensor_of_one_line_is_one_picture():
    class Line(EventDataset):
        def find(self, splits):
            return Listing(("a",), (Sample("0", 0, "train", 0),), {"sensor": [20, 1]})

        def events(self, sample):
            return Events(
                np.array([3, 3, 15], np.uint16), np.zeros(3, np.uint16), np.array([0, 1, 99]), np.ones(3, bool), (20, 1)
            )

        def frames(self, events, sample):
            return super().frames(events, sample)[:, :1]

    dataset = Line(config(T=5, size=20, slicing="time"))
    (row,) = of_dataset(dataset.scan(), 1)
    assert len(row.tiles) == 1
    assert row.tiles[0].shape == (20, 5, 3)
    assert {tuple(place) for place in np.argwhere(row.tiles[0].any(-1))} == {(3, 0), (15, 4)}


def test_nothing_to_show(tmp_path):
    with pytest.raises(DataError, match="found no recordings"):
        of_paths([tmp_path], config(), 1)
    with pytest.raises(DataError, match="nowhere"):
        of_paths([tmp_path / "nowhere"], config(), 1)


def test_samples_are_spread():
    labels = [0] * 10 + [1] * 10 + [2] * 2
    assert spread(labels, 3) == [0, 10, 20]
    assert spread(labels, 8) == [0, 1, 2, 10, 11, 12, 20, 21]
    assert spread(labels, 2) == [0, 10]
    assert spread(labels, 100) == list(range(22))
    assert spread([5, 5, 3], 1) == [2]


def frames():
    """T = 2, 4 x 6: ON at row 0, column 1; OFF at row 3, column 5; both at row 2, column 2; half as many ON in the second."""
    made = np.zeros((2, 2, 4, 6), np.uint8)
    made[0, 0, 0, 1] = made[0, 1, 3, 5] = made[0, 0, 2, 2] = made[0, 1, 2, 2] = 4
    made[1, 0, 0, 1] = 2
    return made


def row(key="train/cup/a.aedat", label="cup"):
    tiles = event_tiles(frames())
    return Row(label, key, tiles)


def test_colours_of_events():
    first, second = event_tiles(frames())
    assert first.shape == (4, 6, 3)
    assert first.dtype == np.uint8
    assert tuple(first[0, 1]) == ON
    assert tuple(first[3, 5]) == OFF
    assert tuple(first[2, 2]) == (255, 255, 255)
    assert not first[1].any()
    assert tuple(second[0, 1]) < ON  # fewer events are darker, in the same scale
    assert second[0, 1].any()
    assert second[1:].sum() == 0


def test_no_events_and_one_channel():
    assert not np.stack(event_tiles(np.zeros((1, 2, 3, 3), np.uint8))).any()
    one = np.zeros((1, 1, 3, 3), np.float16)
    one[0, 0, 1, 1] = 0.5
    assert tuple(event_tiles(one)[0][1, 1]) == ON


def test_hot_pixels_do_not_darken_the_rest():
    made = np.ones((1, 2, 40, 40), np.uint8)
    made[0, 0, 5, 5] = 255
    assert tuple(event_tiles(made)[0][0, 0]) == (255, 255, 255)


def test_tiles_lie_where_their_pixels_say(tmp_path):
    write(tmp_path / "a.png", draw("things", [row(), row("train/pen/b.aedat", "pen <&>")]))
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    place = np.argwhere((pixels == ON).all(-1))
    lower = place[place[:, 0] > 47]  # below the legend
    scale = 144 // 6
    assert len(lower) == 2 * scale * scale  # one pixel of each row, enlarged without smoothing
    top, left = lower[0]
    assert tuple(pixels[top + 3 * scale, left + 4 * scale]) == OFF
    assert tuple(pixels[top + 2 * scale, left + scale]) == (255, 255, 255)
    assert tuple(pixels[top + scale, left]) == (0, 0, 0)


def test_a_sheet_beyond_all_measure_is_refused():
    tile = np.zeros((48, 48, 3), np.uint8)
    with pytest.raises(ConfigError, match="fewer samples") as caught:
        draw("", [Row("", "", [tile] * 1000)])
    assert "pixels" in caught.value.message
