import shutil

import numpy as np
import pytest

from lsgcli.data import parallel
from lsgcli.data.prepare import load_all, prepare
from lsgcli.errors import ConfigError, DataError
from lsgcli.report.terminal import COUNTED
from tests.unit.data.conftest import aedat2_bytes, blob


def test_recordings(config, recordings):
    told = []
    made = config("event-folder", data_dir=str(recordings), T=3, size=16, val_fraction=0.2)
    bundle = prepare(made, progress=lambda *args: told.append(args))
    assert bundle.classes == ("cup", "pen")
    assert (len(bundle.train), len(bundle.val), len(bundle.test)) == (5, 2, 4)
    assert bundle.train.x.shape == (5, 3, 2, 16, 16)
    assert list(dict.fromkeys(told)) == [("preparing data", i, 11) for i in range(1, 12)]
    assert {what for what, _, _ in told} <= set(COUNTED)
    assert (bundle.channels, bundle.static, bundle.mean) == (2, False, None)
    assert bundle.info["sensor"] == [128, 128]
    assert bundle.test.keys == ["test/cup/0.aedat", "test/cup/1.aedat", "test/pen/0.aedat", "test/pen/1.aedat"]
    assert bundle.test.y.tolist() == [0, 0, 1, 1]
    assert np.asarray(bundle.test.x).sum(axis=(1, 2, 3, 4)).tolist() == [60] * 4


def test_folds_of_a_folder(config, tmp_path):
    """Training, validation and test part share no sample; the test parts are all samples."""
    for name, count in (("cup", 11), ("pen", 6)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "data" / name / f"{i}.aedat").write_bytes(aedat2_bytes(blob(i)))
    made, tested = config("event-folder", data_dir=str(tmp_path / "data"), T=2, size=8, val_fraction=0.25), []
    for fold in (1, 2, 3):
        parts = prepare(made.replace(fold=f"{fold}/3"))
        keys = [key for part in (parts.train, parts.val, parts.test) for key in part.keys]
        assert len(set(keys)) == len(keys) == 17
        assert len(parts.val) == 3  # a quarter of the training part of each class
        tested += parts.test.keys
    assert len(set(tested)) == len(tested) == 17
    with pytest.raises(ConfigError, match="--fold: found '1/3' for the data set digits"):
        prepare(config("digits", fold="1/3"))


def test_slicing_reaches_the_frames(config, recordings):
    """In slices of equal count all have as many events; in slices of equal time they do not."""
    made = config("event-folder", data_dir=str(recordings), T=3, size=16)
    count, time = (np.asarray(prepare(made.replace(slicing=name)).test.x).sum(axis=(2, 3, 4)) for name in ("count", "time"))
    assert (count == 20).all()
    assert (time.sum(axis=1) == 60).all()
    assert (time != 20).any()


def test_medians_of_the_training_recordings(config, tmp_path):
    """Number of events, and time from the first to the last, both included; from the files and from the cache."""
    counts = {"train": (30, 50, 41), "test": (1000,)}
    durations = []
    for split, of_split in counts.items():
        for name in ("cup", "pen"):
            (tmp_path / split / name).mkdir(parents=True)
            for i, count in enumerate(of_split):
                events = blob(count, count=count)
                durations += [events[-1][2] - events[0][2] + 1] if split == "train" else []
                (tmp_path / split / name / f"{i}.aedat").write_bytes(aedat2_bytes(events))
    made = config("event-folder", data_dir=str(tmp_path), T=3, size=16)
    expected = {"events": 41, "duration_us": sorted(durations)[2]}
    first, cached, tests = prepare(made), prepare(made), prepare(made, ("test",))
    assert first.info["medians"] == cached.info["medians"] == expected
    assert first.digest() == cached.digest()
    assert "medians" not in tests.info


def test_images(config, images):
    bundle = prepare(config("image-folder", data_dir=str(images), size=8))
    assert bundle.static
    assert "medians" not in bundle.info
    assert bundle.train.x.shape[1:] == (3, 8, 8)
    whole = np.concatenate([np.asarray(bundle.train.x), np.asarray(bundle.val.x)]) / 255
    np.testing.assert_allclose(bundle.mean, whole.mean((0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(bundle.std, whole.std((0, 2, 3)), atol=1e-12)


def loads(monkeypatch):
    """Counts the samples that are not taken from the cache."""
    count = []
    monkeypatch.setattr("lsgcli.data.prepare.load_all", lambda *args: (count.append(len(args[2])), load_all(*args))[1])
    return count


def test_what_does_not_matter_shares_the_cache(config, recordings, monkeypatch, reader_version):
    """Row 26 of the fault table changes each setting that has an effect."""
    count = loads(monkeypatch)
    made = config("event-folder", data_dir=str(recordings), slicing="count")
    first = prepare(made)
    for changes in ({}, {"window_us": 1000}, {"skip_bad": True}):
        np.testing.assert_array_equal(np.asarray(prepare(made.replace(**changes)).train.x), np.asarray(first.train.x))
    prepare(made, splits=("test",), classes=("cup", "pen"))  # evaluation reads the same file as training did
    reader_version("npy", 2)  # which is not used
    prepare(made)
    assert count == [7, 4]
    prepare(made.replace(T=4))
    assert count == [7, 4, 7, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_recordings_are_left_out_and_listed(config, recordings, monkeypatch, caplog, workers):
    bad = recordings / "train" / "pen" / "2.aedat"
    bad.write_bytes(b"#!AER-DAT2.0\r\n1234567")
    if workers:
        monkeypatch.setattr(parallel, "PROBE", -1.0)
        monkeypatch.setattr(parallel, "WORTH", -1.0)
    count = loads(monkeypatch)
    made = config("event-folder", data_dir=str(recordings), workers=workers, val_fraction=0.0)
    with pytest.raises(DataError, match=r"pen/2\.aedat"):
        prepare(made)
    for _ in range(2):  # prepared, and from the cache
        caplog.clear()
        bundle = prepare(made.replace(skip_bad=True))
        assert "skipped 1 unreadable sample:" in caplog.text
        assert f"{bad}: byte 14" in caplog.text
        assert bundle.info["left_out"] == ["train/pen/2.aedat"]
        assert len(bundle.train) == 6
        assert "train/pen/2.aedat" not in bundle.train.keys
        assert bundle.train.y.tolist() == [0, 0, 0, 0, 1, 1]
        whole = prepare(made.replace(skip_bad=True, cache_dir=made.cache_dir + "-2"))
        np.testing.assert_array_equal(np.asarray(bundle.train.x), np.asarray(whole.train.x))
    with pytest.raises(DataError, match=r"pen/2\.aedat"):  # a run that must have it does not use what was prepared
        prepare(made)
    assert count == [7, 7, 4, 7, 4, 7]  # twice in the folder -2, but not again in the first


def test_a_bad_first_recording_does_not_hide_the_sensor(config, recordings):
    (recordings / "train" / "cup" / "0.aedat").write_bytes(b"#!AER-DAT2.0\r\n1")
    bundle = prepare(config("event-folder", data_dir=str(recordings), skip_bad=True))
    assert bundle.info["sensor"] == [128, 128]


def test_nothing_that_can_be_read(config, recordings):
    for file in (recordings / "test").rglob("*.aedat"):
        file.write_bytes(b"#!AER-DAT2.0\r\n1")
    with pytest.raises(DataError, match=r"found no readable sample of the test part: .*aedat: byte"):
        prepare(config("event-folder", data_dir=str(recordings), skip_bad=True))


def test_orientation_turns_the_frames(config, recordings):
    made = config("event-folder", data_dir=str(recordings), T=2, size=64)
    upright, turned = prepare(made), prepare(made.replace(orientation="rotated-90"))
    np.testing.assert_array_equal(np.asarray(turned.test.x), np.rot90(np.asarray(upright.test.x), -1, axes=(-2, -1)))


def test_a_split_rule_where_the_test_part_is_given(config):
    with pytest.raises(ConfigError, match="--split: found 'first' for the data set digits-dvs"):
        prepare(config("digits-dvs", split="first"))


def test_labels_follow_the_checkpoint(config, recordings):
    shutil.rmtree(recordings / "train")
    made = config("event-folder", data_dir=str(recordings))
    bundle = prepare(made, splits=("test",), classes=("pen", "spoon", "cup"))
    assert bundle.classes == ("pen", "spoon", "cup")
    assert bundle.test.y.tolist() == [2, 2, 0, 0]
    assert bundle.train is None
    assert bundle.val is None
    with pytest.raises(DataError, match="'cup', expected those of the checkpoint: pen, spoon"):
        prepare(made, splits=("test",), classes=("pen", "spoon"))


def test_hidden_and_strange_files_are_left_out(config, recordings, caplog):
    (recordings / "train" / ".git").mkdir()
    (recordings / "train" / "cup" / ".DS_Store").write_bytes(b"x")
    (recordings / "train" / "cup" / "notes.txt").write_text("x")
    bundle = prepare(config("event-folder", data_dir=str(recordings)))
    assert len(bundle.train) + len(bundle.val) == 7
    assert "notes.txt" in caplog.text
    assert "DS_Store" not in caplog.text


def remove(root, *paths):
    for path in paths:
        shutil.rmtree(root / path)


BROKEN = {
    "no such folder": (lambda root: remove(root, "."), "no such folder"),
    "empty folder": (lambda root: remove(root, "train", "test"), "train part is missing"),
    "no test part": (lambda root: remove(root, "test"), "test part is missing"),
    "no classes": (lambda root: remove(root, "train/cat", "train/dog"), "one per class"),
    "one class": (lambda root: remove(root, "train/dog", "test/dog"), "at least 2"),
    "class without samples": (
        lambda root: [file.unlink() for file in (root / "train/dog").iterdir()],
        "train/dog: found no samples",
    ),
    "class only in test": (lambda root: remove(root, "train/dog"), "test/dog"),
    "empty image": (lambda root: (root / "test/cat/0.png").write_bytes(b""), "test/cat/0.png"),
    "a file instead": (lambda root: (remove(root, "."), root.write_text("x")), "found a file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_folder_is_told(config, images, tmp_path, case):
    damage, told = BROKEN[case]
    damage(images)
    with pytest.raises(DataError) as caught:
        prepare(config("image-folder", data_dir=str(images)))
    assert told in caught.value.message
    assert str(images) in caught.value.message
    assert caught.value.hint
    assert not list(tmp_path.rglob("*.tmp"))
