"""SHD, on small files of its layout."""

import numpy as np
import pytest

from lsgcli.data.datasets.published import SPOKEN, spoken
from lsgcli.data.prepare import prepare
from lsgcli.errors import ConfigError, DataError
from lsgcli.runs.checks import check
from tests.unit.data.recordings_of import write_shd


@pytest.fixture(autouse=True)
def _close():
    yield
    spoken.cache_clear()


@pytest.fixture
def folder(tmp_path):
    recording = [(0.0, 0), (0.009, 4), (0.011, 5), (0.5, 699)]
    write_shd(tmp_path / "SHD" / "shd_train.h5", [recording, recording[1:], recording, recording], [0, 11, 0, 11])
    write_shd(tmp_path / "SHD" / "shd_test.h5", [recording, recording[:2]], [0, 11])
    return tmp_path


def test_frames(config, folder):
    """Windows of 10 ms of 140 groups of five channels: a spike of channel 4 falls into the first group, one of 5 into the second."""
    made = config("shd", data_dir=str(folder))
    assert (made.T, made.size, made.window_us) == (100, 140, 10_000)
    bundle = prepare(made)
    assert bundle.classes[0] == "zero"
    assert bundle.classes[11] == "eins"
    assert bundle.test.x.shape == (2, 100, 1, 1, 140)
    assert (bundle.channels, bundle.height) == (1, 1)
    assert np.argwhere(bundle.test.x[0]).tolist() == [[0, 0, 0, 0], [1, 0, 0, 1], [50, 0, 0, 139]]
    assert bundle.test.x[0][0, 0, 0, 0] == 2
    assert bundle.test.y.tolist() == [0, 11]


@pytest.mark.parametrize("keys", [(), [name.replace("ue", "ü") for name in SPOKEN], SPOKEN[::-1]])
def test_names_of_the_classes(config, tmp_path, keys):
    for part in ("train", "test"):
        write_shd(tmp_path / f"shd_{part}.h5", [[(0.0, 1)]] * 4, [0, 11] * 2, keys=keys)
    made = config("shd", data_dir=str(tmp_path), T=2)
    if keys == SPOKEN[::-1]:
        with pytest.raises(DataError, match=r"shd_train.h5: .*extra/keys"):
            prepare(made)
    else:
        assert prepare(made).classes == SPOKEN


def test_a_network_for_it(config, folder):
    check(config("shd", data_dir=str(folder)))
    with pytest.raises(ConfigError, match="1 x 144"):
        check(config("shd", data_dir=str(folder), arch="vggsnn", size=144))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"not hdf5" * 100), "shd_test.h5: expected an HDF5 file"),
        (
            lambda path: write_shd(path, [[(0.0, 700)]], [0]),
            "recording 0: .*found x=700, y=0, expected x below 700",
        ),
        (lambda path: write_shd(path, [[(np.nan, 1)]], [0]), "recording 0: .*event 0: found t = nan"),
        (lambda path: write_shd(path, [[(0.0, 1)]], [20]), "labels from 20 to 20, not 0 to 19"),
        (lambda path: write_shd(path, [[(0.0, 1)]], [0, 1]), "found: 1 times, 1 units, 2 labels"),
    ],
    ids=["no hdf5", "channel", "no time", "label", "lengths"],
)
def test_damaged(config, folder, change, message):
    change(folder / "SHD" / "shd_test.h5")
    with pytest.raises(DataError, match=message):
        prepare(config("shd", data_dir=str(folder)), splits=("test",), classes=SPOKEN)
