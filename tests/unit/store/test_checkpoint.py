"""Checkpoints that change while they are read."""

import os

import pytest
import torch

from lsgcli.errors import CheckpointError
from lsgcli.store import checkpoint
from tests.networks import saved


def mapping_after(change, monkeypatch):
    """Call ``change`` once safetensors has read the header of a file, before it opens the file again to map the tensors."""
    map_file = torch.UntypedStorage.from_file

    def changed_first(*arguments, **named):
        change()
        return map_file(*arguments, **named)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", changed_first)


def test_a_file_that_is_replaced_while_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "net.safetensors")
    before = checkpoint.read(path)
    for size in (0, 4_000_000):
        smaller_or_larger = tmp_path / "other.safetensors"
        smaller_or_larger.write_bytes(bytes(size))
        kept = tmp_path / "kept.safetensors"
        os.link(path, kept)
        with monkeypatch.context() as patch:
            mapping_after(lambda other=smaller_or_larger: os.replace(other, path), patch)
            assert checkpoint.read(path).sha256 == before.sha256
        assert path.stat().st_size == size
        os.replace(kept, path)


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "net.safetensors")
    mapping_after(lambda: os.truncate(path, 1000), monkeypatch)
    with pytest.raises(CheckpointError, match=r"net.safetensors: not a valid checkpoint"):
        checkpoint.read(path)
