"""What was prepared before is used again only where it is what would be prepared now, and other data are told from the same."""

import dataclasses
import errno

import numpy as np
import pytest

from lsgcli.data import guard
from lsgcli.data.datasets import digits
from lsgcli.data.frames import VERSION
from lsgcli.data.prepare import prepare
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError
from tests import tiny
from tests.unit.data.conftest import aedat2_bytes
from tests.unit.data.recordings_of import write_nmnist

BAD = b"#!AER-DAT2.0\r\n1234567"


def folder(config, recordings, **settings):
    return config("event-folder", data_dir=str(recordings), T=2, size=16, val_fraction=0.0, **settings)


# The same data?


def test_the_digest_knows_how_the_data_were_made():
    bundle = tiny.bundle()

    def digest(**info):
        return dataclasses.replace(bundle, info={**bundle.info, **info}).digest()

    assert digest() == bundle.digest()
    assert (
        len({digest(), digest(sensor=[32, 32]), digest(release="x"), digest(split="first"), digest(versions={"frames": 3})})
        == 5
    )
    assert digest(release="x", split="y") == digest(split="y", release="x")
    assert digest(left_out=["a"], saturated={"values": 1}) == digest()


def test_what_differs_is_a_warning_or_an_error(config, recordings, caplog):
    made = folder(config, recordings)
    info = prepare(made).info
    other = {**info, "versions": {**info["versions"], "frames": 0, "reader aedat2": 0}}
    prepare(made, expected=other)
    assert f"found frames version {VERSION}, expected 0 as in training" in caplog.text
    with pytest.raises(DataError, match=r"(?s)frames version \d+, expected 0.*reader aedat2 version 1, expected 0") as caught:
        prepare(made, expected=other, strict=True)
    assert "start a new run" in caught.value.hint
    prepare(made, expected=info, strict=True)


def test_a_published_set_that_is_incomplete(config, tmp_path, caplog):
    write_nmnist(tmp_path)
    prepare(config("n-mnist", data_dir=str(tmp_path), T=2))
    train, test = "found 6 samples in the train part, expected 60,000", "found 6 samples in the test part, expected 10,000"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'NMNIST'}: {train} as published; {test} as published"
    ]
    caplog.clear()
    prepare(config("n-mnist", data_dir=str(tmp_path), T=2), splits=("test",))
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'NMNIST'}: {test} as published"]


# --skip-bad


def test_a_failure_that_passes_is_not_remembered(config, recordings, monkeypatch):
    made, read = folder(config, recordings, skip_bad=True), readers.read

    def failing(path, sensor=None):
        if path.match("train/pen/2.aedat"):
            with guard.foreign(path, "a recording"):
                raise OSError(errno.EMFILE, "Too many open files")
        return read(path, sensor)

    with monkeypatch.context() as patch:
        patch.setattr(readers, "read", failing)
        assert prepare(made).info["left_out"] == ["train/pen/2.aedat"]
    bundle = prepare(made)
    assert len(bundle.train) == 7
    assert "left_out" not in bundle.info
    assert np.asarray(bundle.train.x[6]).sum() == 60


# Values that are full


def bright(recordings, file="train/cup/0.aedat", pixels=1, count=600):
    (recordings / file).write_bytes(aedat2_bytes([(10 * p, 5, t, True) for t in range(count) for p in range(pixels)]))


def test_values_that_are_full_are_told_once_and_from_the_cache(config, recordings, caplog):
    bright(recordings, pixels=2)  # two frames of 300 events in each of two pixels
    bright(recordings, "test/pen/0.aedat", count=508)  # 254 are not full
    made = config("event-folder", data_dir=str(recordings), T=2, size=128)
    for _ in range(2):
        caplog.clear()
        bundle = prepare(made)
        assert caplog.text.count("saturate at 255") == 1
        assert f"4 of {11 * 2 * 2 * 128 * 128:,} values, in 1 of 11 recordings" in caplog.text
        assert "--value log1p" in caplog.text
        assert bundle.info["saturated"] == {"values": 4, "recordings": 1}


@pytest.mark.parametrize("settings", [{"value": "log1p"}, {"value": "binary"}, {"resize": "bilinear"}, {"T": 5}])
def test_values_that_fit_are_not_told(config, recordings, caplog, settings):
    bright(recordings)
    bundle = prepare(config("event-folder", data_dir=str(recordings), **{"T": 2, "size": 128, **settings}))
    assert "255" not in caplog.text
    assert "saturated" not in bundle.info


def test_white_images_are_not_full(config, images, caplog):
    from PIL import Image

    Image.new("RGB", (10, 8), "white").save(images / "train" / "cat" / "0.png")
    prepare(config("image-folder", data_dir=str(images), size=8))
    assert "255" not in caplog.text


# One default, one formula


def test_digits_are_enlarged_to_the_same_bits():
    """The formula of bilinear interpolation written down again: place of each pixel's centre, weights 1 - distance."""
    image = digits.digits()[0][17]
    for size in (16, 24, 48):
        place = np.clip((np.arange(size) + 0.5) * 8 / size - 0.5, 0, 7)
        weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(8))).astype(np.float32)
        np.testing.assert_array_equal(digits.enlarge(image, size), weights @ image @ weights.T)


def test_images_of_16_bits(tmp_path):
    """The upper 8 bits of each pixel; other wide types are refused."""
    from PIL import Image

    from lsgcli.data.images import read_image

    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(grey).save(tmp_path / "a.png")
    for mode, shape in (("L", (16, 16)), ("RGB", (16, 16, 3))):
        found = read_image(tmp_path / "a.png", mode)
        assert found.shape == shape
        assert np.array_equal(found.reshape(256, -1)[:, 0], np.arange(256))
    Image.fromarray(grey.astype(np.float32) / 65535).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="pixels of type F"):
        read_image(tmp_path / "a.tiff")
