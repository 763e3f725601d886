import re

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.data.datasets.base import EventDataset, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.data.writers import write_aedat2
from lsgcli.errors import DataError
from lsgcli.report.sheet import event_tiles, of_dataset, of_paths, preparation, spread


def config(**settings):
    return resolve({"dataset": "event-folder", "T": 2, "size": 16, "resize": "bin", **settings}, environment={})


def events(seed=0, count=400, sensor=(128, 128)):
    """More events above than below and left than right, so that every turn is told apart."""
    rng = np.random.default_rng(seed)
    x, y = ((rng.random(count) ** power * side).astype(np.uint16) for side, power in zip(sensor, (2, 3), strict=True))
    return Events(x, y, np.sort(rng.integers(5000, 1_005_000, count)), rng.random(count) < 0.5, sensor)


def test_names_of_cifar10_dvs_are_shown_upright(tmp_path):
    for name in ("cifar10_cat_7.aedat", "other.aedat"):
        write_aedat2(tmp_path / name, events())
    cifar, other = of_paths([tmp_path / "cifar10_cat_7.aedat", tmp_path / "other.aedat"], config(), 8)
    assert cifar.label == "cat"
    assert other.label == tmp_path.name
    for upright, stored in zip(cifar.tiles, other.tiles, strict=True):
        np.testing.assert_array_equal(upright, stored.transpose(1, 0, 2))
    assert not np.array_equal(cifar.tiles[0], other.tiles[0])


def test_orientation_turns_them(tmp_path):
    write_aedat2(tmp_path / "a.aedat", events())
    (plain,) = of_paths([tmp_path / "a.aedat"], config(), 1)
    (mirrored,) = of_paths([tmp_path / "a.aedat"], config(orientation="mirrored"), 1)
    np.testing.assert_array_equal(mirrored.tiles[1], plain.tiles[1][:, ::-1])


def test_facts_and_notes(tmp_path):
    one = events(count=4)
    one.t[:] = [5000, 7000, 12_400, 25_000]
    write_aedat2(tmp_path / "a.aedat", one)
    (row,) = of_paths([tmp_path / "a.aedat"], config(), 1)
    assert row.facts[0] == "4 events in 20.0 ms"
    assert row.notes == [("0.0 - 2.0 ms", "2 events"), ("7.4 - 20.0 ms", "2 events")]
    (row,) = of_paths([tmp_path / "a.aedat"], config(T=4, slicing="time"), 1)  # borders at 5, 10 and 15 ms
    assert row.notes == [
        ("0.0 - 2.0 ms", "2 events"),
        ("7.4 - 7.4 ms", "1 events"),
        ("-", "0 events"),
        ("20.0 - 20.0 ms", "1 events"),
    ]
    assert not row.tiles[2].any()


@pytest.mark.parametrize("form", ["paths", "dataset"])
def test_notes_of_random_windows_fit_the_frames(tmp_path, form):
    """Frames and notes are made apart: each must know of the same windows."""
    (tmp_path / "train/x").mkdir(parents=True)
    for i in range(5):
        write_aedat2(tmp_path / f"train/x/{i}.aedat", events(i))
    window = {"T": 3, "slicing": "window", "window_us": 40_000, "window_start": "random"}
    settings = config(**window, size=128, data_dir=str(tmp_path))
    if form == "paths":
        rows = of_paths([tmp_path / "train/x"], settings, 5)
    else:
        dataset = registry.get("dataset", "event-folder")(settings)
        rows = of_dataset(dataset.scan(("train",)), 5)
    assert len({row.notes[0] for row in rows}) > 1
    for row in rows:
        lit = [int((tile > 0).any(-1).sum()) for tile in row.tiles]
        told = [int(count.split()[0]) for _, count in row.notes]
        assert all(a <= b for a, b in zip(lit, told, strict=True))
        assert sum(lit) >= 0.8 * sum(told)  # a few events share a pixel


def test_a_data_set_is_shown_as_it_is_prepared(tmp_path):
    for split in ("train", "test"):
        for name in ("cup", "pen"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                write_aedat2(tmp_path / split / name / f"{i}.aedat", events(i + len(name)))
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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"maximum per pixel: \d+ events"),
        ({"value": "log1p"}, r"maximum per pixel: [\d.]+ log\(1\+n\)"),
        ({"value": "binary"}, r"maximum per pixel: 1 \(binary\)"),
        ({"value": "log1p", "normalise": "frame"}, r"maximum per pixel: 1 \(normalised\)"),
        ({"normalise": "sample"}, r"maximum per pixel: 1 \(normalised\)"),
    ],
)
def test_the_brightest_pixel_has_a_unit(tmp_path, settings, told):
    write_aedat2(tmp_path / "a.aedat", events())
    assert re.fullmatch(told, of_paths([tmp_path / "a.aedat"], config(**settings), 1)[0].facts[1])


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
    assert spread(labels, 8) == [0, 3, 6, 10, 13, 16, 20, 21]
    assert spread(labels, 2) == [0, 10]
    assert spread(labels, 100) == list(range(22))
    assert spread([5, 5, 3], 1) == [2]


def test_the_preparation_is_told():
    assert preparation(config(), False) == "T = 2, slicing count, 16 x 16 pixels, bin"
    more = preparation(
        config(slicing="window", window_us=7000, value="binary", normalise="frame", orientation="mirrored"), False
    )
    for text in ("7,000 us", "first", "binary", "normalised by frame", "turned: mirrored"):
        assert text in more
    assert preparation(config(), True) == "16 x 16 pixels"
