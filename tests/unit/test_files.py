"""Files that cannot be written are named as the person named them."""

import pytest

from lsgcli.errors import StorageError
from lsgcli.files import write_text


def test_the_error_names_the_target_and_no_partial_file(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/a\.txt: cannot be written: Not a directory") as caught:
        write_text(tmp_path / "file" / "a.txt", "text")
    assert ".partial" not in str(caught.value)
    assert "--out" not in str(caught.value)  # not every command has it
