"""Folders with links in them, and folders that lack a part."""

import os

import pytest

from lsgcli import registry
from lsgcli.data import manifest, summary
from lsgcli.data.folders import walk
from lsgcli.data.prepare import prepare
from lsgcli.errors import DataError, MissingPart
from tests.unit.data.conftest import aedat2_bytes, blob


@pytest.fixture
def linked(tmp_path):
    """Two classes of CIFAR10-DVS that lie elsewhere, behind links, and a circle."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("cat", "dog"):
        away = tmp_path / "away" / name
        away.mkdir(parents=True)
        for number in (0, 900):
            (away / f"cifar10_{name}_{number}.aedat").write_bytes(aedat2_bytes(blob(number)))
        (root / name).symlink_to(away)
    (root / "cat" / "circle").symlink_to(root)
    os.mkfifo(root / "cat" / "pipe.aedat")
    return root


def test_links_are_followed_and_circles_and_pipes_are_not(linked):
    names = [f"{name}/cifar10_{name}_{number}.aedat" for name in ("cat", "dog") for number in (0, 900)]
    assert [path.relative_to(linked).as_posix() for path in walk(linked)] == names


def test_everything_that_looks_into_folders_follows_links(linked, config, monkeypatch):
    assert [sample.label for sample in summary.found(linked).samples] == [0, 0, 1, 1]
    manifest.write(linked)
    assert len(manifest.read(linked)) == 4
    monkeypatch.setattr("lsgcli.data.datasets.published.CIFAR_CLASSES", ("cat", "dog"))
    listing = registry.get("dataset", "cifar-dvs")(config("cifar-dvs", data_dir=str(linked))).scan()
    assert [sample.key for sample in listing.samples] == ["cat/0", "cat/900", "dog/0", "dog/900"]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(linked, monkeypatch):
    whole = os.listdir

    def listdir(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DataError, match="dog: cannot be listed: Permission denied"):
        list(walk(linked))


@pytest.mark.parametrize(
    ("name", "there", "missing"),
    [
        ("event-folder", "test/a/0.bin", "train"),
        ("n-mnist", "Train/0/0.bin", "test"),
        ("dvs-gesture", "ibmGestureTrain/user01_led/0.npy", "test"),
        ("shd", "shd_test.h5", "train"),
    ],
)
def test_a_part_that_is_not_there(config, tmp_path, name, there, missing):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(bytes([3, 4, 0x80, 0, 1]))
    dataset = registry.get("dataset", name)(config(name, data_dir=str(tmp_path)))
    with pytest.raises(MissingPart, match=f"the {missing} part is missing") as caught:
        dataset.scan((missing,))
    assert caught.value.part == missing
    assert caught.value.exit_code == 3
    if name == "event-folder":
        assert "--split stratified" in caught.value.hint
    else:
        assert dataset.remote((missing,))[0].name in caught.value.hint


@pytest.mark.parametrize("target", ["gone", "link.aedat"], ids=["to nothing", "to itself"])
def test_a_link_that_leads_to_no_recording(recordings, config, target):
    """It is a recording that cannot be read, also as a folder of a class."""
    (recordings / "train" / "cup" / "link.aedat").symlink_to(target)
    (recordings / "train" / target).symlink_to(target)
    made = config("event-folder", data_dir=str(recordings))
    with pytest.raises(DataError, match=r"cup/link\.aedat: cannot be read: (No such file|Too many levels)"):
        prepare(made)
    assert prepare(made.replace(skip_bad=True)).info["left_out"] == ["train/cup/link.aedat"]
