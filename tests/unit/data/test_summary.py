import dataclasses
import json

import numpy as np
import pytest

from lsgcli.data import summary
from lsgcli.data.datasets.base import dataset_of
from lsgcli.data.events import Events
from lsgcli.errors import DataError
from tests.unit.data.conftest import aedat2_bytes
from tests.unit.data.recordings_of import write_npz


@pytest.fixture
def folder(tmp_path):
    """Two classes: a cup of 3 events in 400 us and one of 5 in 1000 us, a pen of 2 in 0 us; and files that are none."""
    root = tmp_path / "things"
    for name in ("cup", "pen", ".hidden"):
        (root / name).mkdir(parents=True)
    recordings = {
        "cup/a.aedat": [(1, 2, 100, True), (3, 4, 300, False), (5, 6, 500, True)],
        "cup/b.aedat": [(i, i, 250 * i, True) for i in range(5)],
        "pen/c.aedat": [(9, 9, 7, False), (9, 9, 7, False)],
    }
    for name, events in recordings.items():
        (root / name).write_bytes(aedat2_bytes(events))
    (root / "README.txt").write_text("none")
    (root / "cup/.partial-12-b.aedat").write_bytes(b"unfinished")
    (root / ".hidden/d.aedat").write_bytes(b"")
    return root


def test_of_a_folder(folder):
    found = summary.of_dataset(summary.found(folder), workers=0)
    assert found["recordings"] == 3
    assert found["events"] == 10
    assert found["classes"] == {"cup": 2, "pen": 1}
    assert found["sensor"] == [128, 128]
    assert found["formats"] == {"aedat2": 3}
    assert found["duration_us"] == {"min": 0, "median": 400, "max": 1000}
    assert found["events_per_recording"] == {"min": 2, "median": 3, "max": 5}
    assert found["unreadable"] == []
    json.dumps(found)


def test_several_formats_and_sensors(folder):
    wide = Events(np.arange(200), np.arange(200) // 2, np.arange(200), np.arange(200) % 2 > 0, (200, 100))
    write_npz(folder / "pen/e.npz", wide)
    found = summary.of_dataset(summary.found(folder), workers=0)
    assert found["formats"] == {"aedat2": 3, "npy": 1}
    assert found["sensor"] == [200, 128]
    assert found["sensor_stated"]
    write_npz(folder / "pen/e.npz", dataclasses.replace(wide, sensor=None))
    assert not summary.of_dataset(summary.found(folder), workers=0)["sensor_stated"]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"found no recordings"):
        summary.found(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        summary.of_dataset(summary.found(tmp_path / "nowhere"))


def test_of_a_data_set_of_recordings(recordings, config):
    dataset = dataset_of(config("event-folder", data_dir=str(recordings))).scan()
    (recordings / "train/cup/0.aedat").write_bytes(b"#!AER-DAT2.0\r\n")
    found = summary.of_dataset(dataset, workers=0)
    assert found["recordings"] == 10
    assert found["parts"] == {"train": 7, "test": 4}
    assert found["classes"] == {"cup": 5, "pen": 5}
    assert found["events"] == 600
    assert [one["name"] for one in found["unreadable"]] == ["train/cup/0.aedat"]
    json.dumps(found)
