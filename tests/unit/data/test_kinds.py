"""Files that are given as a checkpoint and are none."""

import io
import json

import pytest
import torch

from lsgcli.errors import CheckpointError
from lsgcli.store import checkpoint
from tests import networks


def written(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


PICKLE = "lsg reads no pickled weights. In Python: lsgcli.build(...)"


@pytest.mark.parametrize(
    ("name", "content", "found", "hint"),
    [
        ("config.json", b'{"schema": 1}', "a file that starts with b'.*", "`lsg train` prints the path"),
        ("a.aedat", b"#!AER-DAT2.0\r\n", "a file that starts with b'#!AER-DAT'", "take it before other files"),
        ("net.onnx", b"\x08\x07", r"an export \(.onnx\)", "Only eval and predict run exports"),
        ("net.pth", written(lambda buffer: torch.save({"a": torch.zeros(2)}, buffer)), "a .pth file", PICKLE),
        ("notes.txt", b"some notes\n", r"a file that starts with b'some note'", "`lsg train` prints the path"),
        ("empty", b"", "an empty file", "`lsg train` prints the path"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, found, hint):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (checkpoint.read, checkpoint.read_config):
        with pytest.raises(CheckpointError, match=f"{name}: found {found}, expected a checkpoint") as caught:
            read(path)
        assert hint in caught.value.hint


def test_the_checkpoint_beside_a_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    networks.saved(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(tmp_path / "config.json")
    assert caught.value.hint == f"Try {tmp_path / 'best.safetensors'}."
