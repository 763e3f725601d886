"""Files and folders appear whole or not at all; those that cannot be written are named as the person named them."""

import os

import pytest

from lsgcli.errors import StorageError
from lsgcli.files import creating_folder, write_text


def test_the_error_names_the_target_and_no_partial_file(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/a\.txt: cannot be written: Not a directory") as caught:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert ".partial" not in str(caught.value)
    assert "--out" not in str(caught.value)  # not every command has it


def test_a_folder_appears_whole(tmp_path):
    """Not before its last file; with the modes of new files; over an empty folder too."""
    before = os.umask(0o027)
    try:
        for _ in range(2):
            with creating_folder(tmp_path / "net") as temporary:
                (temporary / "a.txt").write_text("text")
                (temporary / "a.txt").chmod(0o600)
                assert not any((tmp_path / "net").glob("*"))
            assert [path.name for path in tmp_path.iterdir()] == ["net"]
            assert (tmp_path / "net" / "a.txt").read_text() == "text"
            assert (tmp_path / "net" / "a.txt").stat().st_mode & 0o777 == 0o640
            (tmp_path / "net" / "a.txt").unlink()
    finally:
        os.umask(before)


def test_nothing_is_left_of_a_folder_that_failed(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine").write_text("mine")
    with (
        pytest.raises(StorageError, match="other: cannot be written: No such file"),
        creating_folder(tmp_path / "other") as temporary,
    ):
        (temporary / "a.txt").write_text((tmp_path / "nothing").read_text())
    with pytest.raises(StorageError, match="net: cannot be written: Directory not empty"), creating_folder(tmp_path / "net"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["net", "mine"]
