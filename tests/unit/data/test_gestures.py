import io
import pickle
import re

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.data.datasets.published import DvsGesture
from lsgcli.errors import DataError
from tests.unit.data.recordings_of import gesture


@pytest.fixture
def one_gesture(config, tmp_path):
    def read(content):
        for file in DvsGesture.archives.values():
            folder = tmp_path / file.content / "user01_fluorescent_led"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "3.npy").write_bytes(content if isinstance(content, bytes) else gesture(content))
        dataset = registry.get("dataset", "dvs-gesture")(config("dvs-gesture", data_dir=str(tmp_path)))
        listing = dataset.scan(("test",))
        assert listing.classes[listing.samples[0].label] == "Right arm cw"
        return dataset.events(listing.samples[0])

    return read


@pytest.mark.parametrize("kind", [np.int64, np.uint16, np.int32, np.float64, np.float32])
def test_gestures_are_read_in_microseconds(one_gesture, kind):
    events = one_gesture(np.array([[0, 127, 1, 40_000], [127, 0, 0, 12], [5, 6, 1, 40_000]], kind))
    assert events.t.tolist() == [12_000, 40_000_000, 40_000_000]
    assert events.x.tolist() == [127, 0, 5]
    assert events.y.tolist() == [0, 127, 6]
    assert np.asarray(events.on).tolist() == [False, True, True]
    assert events.sensor == (128, 128)
    assert one_gesture([[1.0, 2.0, 0.0, 1.2345]]).t.tolist() == [1234]


GOOD = [1, 2, 1, 3]


def written(write, *arguments, end=b""):
    stream = io.BytesIO()
    write(stream, *arguments)
    return stream.getvalue() + end


def lying(shape):
    """A header that claims more than there is."""
    head = {"descr": "<i8", "fortran_order": False, "shape": shape}
    return written(np.lib.format.write_array_header_1_0, head, end=bytes(320))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([GOOD, [128, 0, 0, 1]], "event 1: found x=128, y=0, expected x below 128"),
        ([GOOD, [0, 0, 1, 1 << 60]], "event 1: found t = 1.15"),
        (np.zeros((5, 3)), "expected a numpy array"),
        (np.zeros(4), "expected integers of shape"),
        (np.zeros((5, 4), complex), "of type complex128"),
        (lying((1 << 40, 4)), "expected a numpy array"),
        (lying((11, 4)), "expected a numpy array"),
        (gesture([GOOD])[:-3], "expected a numpy array"),
        (pickle.dumps([1]), "expected a numpy array"),
        (written(np.save, np.array([[{}] * 4], object)), "expected a numpy array"),
        (written(np.savez, np.zeros(3)), "expected a numpy array"),
    ],
)
def test_damaged_gestures(one_gesture, content, told):
    with pytest.raises(DataError, match=rf"3\.npy: .*{told}"):
        one_gesture(content)


@pytest.mark.parametrize("name", ["11.npy", "x.npy", "1_2.npy"])
def test_a_gesture_without_a_label(config, tmp_path, name):
    (tmp_path / "ibmGestureTest" / "user01_led").mkdir(parents=True)
    (tmp_path / "ibmGestureTest" / "user01_led" / name).write_bytes(gesture([GOOD]))
    with pytest.raises(DataError, match=rf"{re.escape(name)}: found a name that is not a label"):
        registry.get("dataset", "dvs-gesture")(config("dvs-gesture", data_dir=str(tmp_path))).scan(("test",))
