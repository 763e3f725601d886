import errno
import tarfile

import pytest

from lsgcli.data.download import unpack
from lsgcli.errors import StorageError
from tests.unit.data.hostile import CONTENT, MAKERS, good, zipped


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_packed_comes_out(tmp_path, kind):
    archive, folder, told = good(tmp_path / kind), tmp_path / "out" / "d", []
    found = unpack(archive, folder, lambda *report: told.append(report))
    assert found == sorted(folder / name for name in CONTENT)
    assert files(folder) == CONTENT
    assert told == sorted(told)
    assert told[-1][0] == f"unpacking {kind}"
    assert 0 < told[-1][1] <= told[-1][2] == archive.stat().st_size
    assert [path.name for path in folder.parent.iterdir()] == ["d"]
    assert (folder / "LICENSE").stat().st_mode & 0o111 == 0


@pytest.mark.parametrize("kind", MAKERS)
def test_a_top_folder_of_the_name_is_left_out(tmp_path, kind):
    archive = good(tmp_path / kind)
    inner = sorted(tmp_path / name for name in CONTENT if name.startswith("set/"))
    assert unpack(archive, tmp_path / "set") == inner
    assert files(tmp_path / "set") == {name[4:]: content for name, content in CONTENT.items() if name.startswith("set/")}


def test_a_file_or_a_zip_of_the_name_is_what_is_extracted(tmp_path):
    archive = good(tmp_path / "a.tar")
    assert unpack(archive, tmp_path / "LICENSE") == [tmp_path / "LICENSE"]
    assert (tmp_path / "LICENSE").read_bytes() == CONTENT["LICENSE"]
    inner = good(tmp_path / "a.zip").rename(tmp_path / "set.zip")
    outer = zipped(tmp_path / "outer.zip", [("top/set.zip", inner.read_bytes()), ("top/notes", b"")])
    found = unpack(outer, tmp_path / "set")
    assert found == sorted(tmp_path / name for name in CONTENT if name.startswith("set/"))
    assert not list(tmp_path.glob(".*"))


def test_a_folder_with_files_or_a_link_is_not_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for name, problem in (("disk", "not empty"), ("link", "found a symbolic link")):
        with pytest.raises(StorageError, match=f"{name}: .*{problem}"):
            unpack(good(tmp_path / "a.zip"), tmp_path / name)
    assert files(tmp_path / "disk") == {"mine": b"mine"}


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    archive, folder = good(tmp_path / "a.tar"), tmp_path / "d"

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(StorageError, match=r"\.lsg-unpacking-a-d: cannot be written: No space left"):
        unpack(archive, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
