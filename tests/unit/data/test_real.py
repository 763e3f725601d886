"""Against real recordings, where the archives are at hand."""

import numpy as np
import pytest

from lsgcli.data.prepare import prepare
from lsgcli.data.readers.base import read


def test_aedat2_equals_its_aedat4_copies(shared):
    root = shared("dvs128-objects-dev")
    copies = sorted((root / "aedat4").rglob("*.aedat4"))
    assert len(copies) == 48
    for copy in copies:
        original = root / copy.relative_to(root / "aedat4").with_suffix(".aedat")
        a, b = read(original), read(copy)
        assert a.sensor == b.sensor == (128, 128)
        for name in ("x", "y", "t", "on"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=f"{name} of {original.name}")


def test_n_mnist(shared, config):
    root = shared("nmnist-dev")
    path = min((root / "Train" / "5").iterdir())
    events, raw = read(path), np.fromfile(path, np.uint8).reshape(-1, 5).astype(int)
    np.testing.assert_array_equal(events.x, raw[:, 0])
    np.testing.assert_array_equal(events.y, raw[:, 1])
    np.testing.assert_array_equal(events.on, raw[:, 2] >= 128)
    np.testing.assert_array_equal(events.t, (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4])
    bundle = prepare(config("n-mnist", data_dir=str(root)))
    assert (len(bundle.train), bundle.val) == (700, None)
    assert np.bincount(bundle.test.y).tolist() == [13, 13, 11, 10, 16, 16, 16, 16, 21, 18]


@pytest.mark.parametrize(
    ("name", "count", "sensor"),
    [
        ("tonic_sample.aedat4", 111_954, (320, 240)),
        ("dvproc_test-minimal.aedat4", 255_283, (640, 480)),
        ("ncaltech101_faces_easy_0001.bin", 67_445, None),
    ],
)
def test_samples_of_formats(shared, name, count, sensor):
    events = read(shared("event-format-samples-dev") / name)
    assert (len(events), events.sensor) == (count, sensor)
