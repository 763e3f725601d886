import pytest

from lsgcli import registry
from lsgcli.data import manifest, summary
from lsgcli.errors import DataError
from tests.unit.data.conftest import unchanged
from tests.unit.data.recordings_of import write_nmnist


def test_without_a_manifest(recordings, tmp_path):
    verdict = summary.verify(summary.found(recordings), workers=0)
    assert not verdict["manifest"]
    assert summary.faults(verdict) == []
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(DataError, match=str(tmp_path / name)):
            summary.found(tmp_path / name)


def test_writing_the_manifest(recordings):
    assert summary.verify(summary.found(recordings), write=True, workers=0)["manifest"]
    assert unchanged(recordings)
    other = recordings / "train/cup/1.aedat"
    other.write_bytes(other.read_bytes()[:-8])
    assert summary.faults(summary.verify(summary.found(recordings), workers=0)) == ["changed: train/cup/1.aedat"]
    assert summary.faults(summary.verify(summary.found(recordings), write=True, workers=0)) == []
    assert summary.faults(summary.verify(summary.found(recordings), workers=0)) == []
    other.write_bytes(b"no recording")
    listed, verdict = manifest.read(recordings), summary.verify(summary.found(recordings), workers=0)
    assert list(verdict["unreadable"]) == ["train/cup/1.aedat"]
    assert len(summary.faults(verdict)) == 2  # changed, and unreadable
    with pytest.raises(DataError, match=r"1\.aedat"):
        summary.verify(summary.found(recordings), write=True, workers=0)
    assert manifest.read(recordings) == listed


def test_published_counts(recordings, config, monkeypatch):
    dataset = registry.get("dataset", "event-folder")(config("event-folder", data_dir=str(recordings))).scan()
    for published in ({"train": 7, "test": 5}, {"all": 12}):
        monkeypatch.setattr(type(dataset), "published", published)
        verdict = summary.verify(dataset, workers=0)
        (warning,) = verdict["warnings"]
        assert "as published" in warning
        assert verdict["counts"] == {"train": 7, "test": 4}
        assert summary.faults(verdict) == []


def test_what_is_embedded_has_no_folder(config):
    one = registry.get("dataset", "digits")(config("digits")).scan(("test",))
    verdict = summary.verify(one, workers=0)
    assert (verdict["path"], verdict["manifest"], summary.faults(verdict)) == ("digits", False, [])
    with pytest.raises(DataError, match="expected a folder"):
        summary.verify(one, write=True, workers=0)


def test_the_folder_by_default(recordings, config, monkeypatch):
    """A data set that is downloaded has one without --data-dir, too."""
    monkeypatch.chdir(recordings.parent)
    root = recordings.parent / "data" / "NMNIST"
    write_nmnist(root.parent)
    manifest.write(root)
    (root / "Test/0/00001.bin").write_bytes(bytes([3, 5, 0x80, 0, 1]))
    one = registry.get("dataset", "n-mnist")(config("n-mnist"))
    verdict = summary.verify(one.scan(), workers=0)
    assert (verdict["path"], verdict["changed"]) == ("data/NMNIST", ("Test/0/00001.bin",))
