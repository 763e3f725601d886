"""Readers on real recordings, and against what other libraries read."""

import numpy as np
import pytest

from lsgcli.data.prepare import prepare
from lsgcli.data.readers.base import identify, read

SAMPLES = {
    "tonic_sample.aedat4": ("aedat4", 111_954, (320, 240)),
    "tonic_sample_ncars.dat": ("prophesee-dat", 2_009, None),
    "ncaltech101_faces_easy_0001.bin": ("nmnist-bin", 67_445, None),
    "evt2_sample.raw": ("prophesee-evt2", 539_481, None),
    "evt3_sample.raw": ("prophesee-evt3", 219_596, None),
    "dvproc_test-minimal.aedat4": ("aedat4", 255_283, (640, 480)),
}
# Last pixel that has an event, and length in ms: as its README says, but for EVT3, where that has expelliarmus's 54 ms.
SEEN = {
    "tonic_sample_ncars.dat": (77, 41, 100),
    "ncaltech101_faces_easy_0001.bin": (150, 172, 299),
    "evt2_sample.raw": (599, 475, 50),
    "evt3_sample.raw": (1279, 719, 9),
    "dvproc_test-minimal.aedat4": (639, 479, 2700),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_all_formats(shared, name):
    reader, count, sensor = SAMPLES[name]
    path = shared("event-format-samples-dev") / name
    events = read(path)
    assert (identify(path), len(events), events.sensor) == (reader, count, sensor)
    if name in SEEN:
        span = round((int(events.t[-1]) - int(events.t[0])) / 1000)
        assert (int(events.x.max()), int(events.y.max()), span) == SEEN[name]


def test_evt3_places_agree_with_expelliarmus(shared):
    Wizard = pytest.importorskip("expelliarmus").Wizard
    path = shared("event-format-samples-dev") / "evt3_sample.raw"
    events, theirs = read(path), Wizard(encoding="evt3").read(path)

    def pixels(x, y, on):
        return np.sort(x.astype(np.int64) << 16 | y.astype(np.int64) << 1 | on)

    assert (pixels(events.x, events.y, events.on) == pixels(theirs["x"], theirs["y"], theirs["p"])).all()


def test_aedat4_copies_are_their_aedat2_originals(shared):
    root = shared("dvs128-objects-dev")
    copies = sorted((root / "aedat4").rglob("*.aedat4"))
    assert len(copies) == 48
    for copy in copies:
        original = read(root / copy.relative_to(root / "aedat4").with_suffix(".aedat"))
        found = read(copy)
        assert len(found) > 1000
        for name in ("x", "y", "t", "on"):
            assert (getattr(found, name) == getattr(original, name)).all(), (copy.name, name)
        assert found.sensor == original.sensor == (128, 128)


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
