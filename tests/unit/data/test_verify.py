import pytest

from lsgcli import registry
from lsgcli.data import manifest, verify
from lsgcli.errors import DataError
from tests.unit.data.conftest import unchanged
from tests.unit.data.recordings_of import write_nmnist


@pytest.fixture
def dataset(recordings, config):
    return registry.get("dataset", "event-folder")(config("event-folder", data_dir=str(recordings))).scan()


def test_without_a_manifest(recordings, tmp_path):
    verdict = verify.of_path(recordings, workers=0)
    assert not verdict.manifests
    assert verdict.faults == []
    (tmp_path / "empty").mkdir()
    for path, told in ((tmp_path / "empty", "neither recordings nor"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(DataError, match=told):
            verify.of_path(path, workers=0)
    with pytest.raises(DataError, match="found a file"):
        verify.of_path(recordings / "train/cup/0.aedat", workers=0)


def test_writing_the_manifest(recordings):
    verdict = verify.written(verify.of_path(recordings, workers=0))
    assert verdict.manifests
    assert unchanged(recordings)
    other = recordings / "train/cup/1.aedat"
    other.write_bytes(other.read_bytes()[:-8])
    changed = verify.of_path(recordings, workers=0)
    assert changed.faults == ["changed: train/cup/1.aedat"]
    assert verify.written(changed).faults == []
    assert verify.of_path(recordings, workers=0).faults == []
    other.write_bytes(b"no recording")
    listed, verdict = manifest.read(recordings), verify.of_path(recordings, workers=0)
    assert list(verdict.unreadable) == ["train/cup/1.aedat"]
    assert len(verdict.faults) == 2  # changed, and unreadable
    with pytest.raises(DataError, match=r"1\.aedat"):
        verify.written(verdict)
    assert manifest.read(recordings) == listed


def test_published_counts(dataset, monkeypatch):
    monkeypatch.setattr(type(dataset), "published", {"train": 7, "test": 5})
    verdict = verify.of_dataset(dataset, workers=0)
    assert verdict.warnings == ["found 4 samples in the test part, expected 5 as published"]
    assert verdict.counts == {"train": 7, "test": 4}
    monkeypatch.setattr(type(dataset), "published", {"all": 12})
    verdict = verify.of_dataset(dataset, workers=0)
    assert verdict.warnings == ["found 11 samples in total, expected 12 as published"]
    assert verdict.faults == []


def test_what_is_embedded_has_no_folder(config):
    one = registry.get("dataset", "digits")(config("digits"))
    verdict = verify.of_dataset(one.scan(("test",)), workers=0)
    assert (verdict.path, verdict.manifests, verdict.faults) == ("digits", (), [])
    assert not verdict.folder
    with pytest.raises(DataError, match="expected a folder"):
        verify.written(verdict)


def test_manifests_one_level_below(recordings):
    """Such as the SHA256SUMS that a download writes into DIR/NMNIST."""
    root, below = recordings.parent / "root", recordings.parent / "root" / "below"
    root.mkdir()
    recordings.rename(below)
    (root / "note.txt").write_text("no recording, and no manifest beside it")
    manifest.write(below)
    other = below / "train/cup/1.aedat"
    other.write_bytes(other.read_bytes()[:-8])
    (below / "test/pen/0.aedat").unlink()
    (below / "test/pen/new.aedat").write_bytes(other.read_bytes())
    verdict = verify.of_path(root, workers=0)
    assert verdict.manifests == ("below/SHA256SUMS",)
    assert verdict.changed == ("below/train/cup/1.aedat",)
    assert verdict.missing == ("below/test/pen/0.aedat",)
    assert verdict.extra == ("below/test/pen/new.aedat",)
    assert verify.written(verdict).manifests == ("below/SHA256SUMS",)
    assert not (root / "SHA256SUMS").exists()
    assert unchanged(below)
    manifest.write(root, [root / "note.txt"])
    both = verify.of_path(root, workers=0)
    assert both.manifests == ("SHA256SUMS", "below/SHA256SUMS")
    assert both.extra == ()  # what the lower one lists is known
    verify.written(both)
    assert unchanged(root)
    assert unchanged(below)


def test_the_folder_by_default(recordings, config, monkeypatch):
    """A data set that is downloaded has one without --data-dir, too."""
    monkeypatch.chdir(recordings.parent)
    root = recordings.parent / "data" / "NMNIST"
    write_nmnist(root.parent)
    manifest.write(root)
    (root / "Test/0/00001.bin").write_bytes(bytes([3, 5, 0x80, 0, 1]))
    one = registry.get("dataset", "n-mnist")(config("n-mnist"))
    verdict = verify.of_dataset(one.scan(), workers=0)
    assert (verdict.path, verdict.changed) == ("data/NMNIST", ("Test/0/00001.bin",))
