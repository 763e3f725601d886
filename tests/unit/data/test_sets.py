from pathlib import Path

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.data.datasets import digits
from lsgcli.data.datasets.base import dataset_of
from lsgcli.data.prepare import prepare
from lsgcli.errors import ConfigError, DataError

NAMES = registry.names("dataset")


def test_digits_and_digits_dvs_share_their_split(config):
    still = prepare(config("digits"))
    moving = dataset_of(config("digits-dvs")).scan()
    assert still.test.keys == [sample.key for sample in moving.part("test")]
    assert moving.shape == (4, 2, 32, 32)
    assert len(still.test) == 359
    assert len(still.train) + len(still.val) == 1438
    assert set(still.train.keys + still.val.keys).isdisjoint(still.test.keys)
    assert still.train.x.shape[1:] == (1, 16, 16)
    assert np.bincount(still.test.y).min() >= 34


def test_the_simulated_camera_differs_between_samples():
    """Same image, another sample: other thresholds, start and noise."""
    made = registry.get("dataset", "digits-dvs")(resolve({}, environment={}))
    listing = made.scan(("test",))
    first, second = (listing.samples[0]._replace(key=key) for key in ("a", "b"))
    assert len(made.events(first)) != len(made.events(second))
    assert np.array_equal(made.events(first).t, made.events(first).t)


@pytest.mark.slow
def test_digits_dvs_can_be_learned(config):
    """By a ridge regression on the prepared arrays."""
    bundle = prepare(config("digits-dvs"))
    x, z = (np.sqrt(np.asarray(part.x).reshape(len(part), -1).astype(float)) for part in (bundle.train, bundle.test))
    gram = x @ x.T + 300 * np.eye(len(x))
    weights = x.T @ np.linalg.solve(gram, np.eye(len(bundle.classes))[bundle.train.y] - 0.1)
    assert (np.argmax(z @ weights, 1) == bundle.test.y).mean() > 0.9


def cifar_dvs(root, numbers, suffix="aedat"):
    from lsgcli.data.datasets.published import CIFAR_CLASSES

    for name in CIFAR_CLASSES:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            # One ON event at x_raw = 100, y_raw = 10: row 27, column 117 when upright.
            content = b"#!AER-DAT2.0\r\n" + (10 << 8 | 100 << 1).to_bytes(4, "big") + bytes(4)
            (root / name / f"cifar10_{name}_{number}.{suffix}").write_bytes(content)


@pytest.mark.parametrize(("split", "test"), [("last", {900, 999}), ("first", {0, 99})])
def test_cifar_dvs_splits_by_number(config, tmp_path, split, test):
    cifar_dvs(tmp_path / "d", [0, 99, 100, 899, 900, 999])
    bundle = prepare(config("cifar-dvs", data_dir=str(tmp_path / "d"), T=1, size=128, split=split))
    assert {int(key.split("/")[1]) for key in bundle.test.keys} == test
    assert {int(key.split("/")[1]) for key in bundle.train.keys + bundle.val.keys} == {0, 99, 100, 899, 900, 999} - test
    assert bundle.info["split"] == split
    np.testing.assert_array_equal(np.argwhere(bundle.test.x[0]), [[0, 0, 27, 117]])
    assert bundle.test.keys[0].startswith("airplane/")
    assert "original" in bundle.info["release"]


def test_cifar_dvs_twice(config, tmp_path):
    cifar_dvs(tmp_path / "d" / "a", [1])
    cifar_dvs(tmp_path / "d" / "b", [1])
    with pytest.raises(DataError, match="twice"):
        prepare(config("cifar-dvs", data_dir=str(tmp_path / "d")))


def test_cifar_dvs_of_both_releases(config, tmp_path, caplog):
    cifar_dvs(tmp_path, [1], "aedat4")
    cifar_dvs(tmp_path, [2, 999])
    dataset = dataset_of(config("cifar-dvs", data_dir=str(tmp_path))).scan()
    assert {Path(sample.source).suffix for sample in dataset.samples} == {".aedat"}
    assert "both releases" in caplog.text


@pytest.mark.parametrize(("name", "named"), [("NMNIST/train.zip", False), ("CIFAR10DVS.ZIP", True), ("x/cat.zip", True)])
def test_archives_beside_cifar_dvs(config, tmp_path, name, named):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        dataset_of(config("cifar-dvs", data_dir=str(tmp_path)), may_download=False).scan()
    assert (name in caught.value.message) == named


@pytest.mark.parametrize("below", ["", "NMNIST"])
def test_n_mnist_layouts(config, tmp_path, below):
    for part in ("Train", "Test"):
        for digit in "01":
            folder = tmp_path / below / part / digit
            folder.mkdir(parents=True)
            (folder / "00001.bin").write_bytes(bytes([3, 4, 0x80, 0, 1]))
    bundle = prepare(config("n-mnist", data_dir=str(tmp_path), T=1, size=34))
    assert bundle.classes == ("0", "1")
    np.testing.assert_array_equal(np.argwhere(bundle.test.x[0]), [[0, 0, 4, 3]])


def unstated(root):
    """Recordings of one event at x = 9 or 29, y = 7, which do not state their sensor."""
    for part in ("train", "test"):
        for i, name in enumerate("ab"):
            (root / part / name).mkdir(parents=True)
            (root / part / name / "0.bin").write_bytes(bytes([20 * i + 9, 7, 0x80, 0, 1]))


def test_sensor_of_recordings_that_do_not_state_it(config, tmp_path):
    unstated(tmp_path)
    with pytest.raises(ConfigError, match="sensor: found none"):
        prepare(config("event-folder", data_dir=str(tmp_path)))
    assert prepare(config("event-folder", data_dir=str(tmp_path), sensor="34x34")).info["sensor"] == [34, 34]
    with pytest.raises(DataError, match=r"0\.bin: event 0: found x=29"):
        prepare(config("event-folder", data_dir=str(tmp_path), sensor="20x20"))
    of_checkpoint = dataset_of(config("event-folder", data_dir=str(tmp_path)), expected={"sensor": [40, 30]})
    assert of_checkpoint.scan().info["sensor"] == [40, 30]


def test_the_embedded_digits_are_those_of_uci():
    """Counts of each class in the test part of optdigits, as its page at UCI lists them."""
    images, labels = digits.digits()
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.shape == (1797, 8, 8)
    assert set(np.unique(images * 16)) == set(range(17))
