"""HDF5 files of strangers: nothing outside them is read, and no more memory is taken than their size explains."""

import shutil

import h5py
import numpy as np
import pytest

from lsgcli.data import hdf5
from lsgcli.data.guard import Damaged
from lsgcli.errors import CheckpointError
from lsgcli.export.nir import NIR
from tests import exports, networks

pytest.importorskip("nir")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nir")
    networks.saved(folder / "net.safetensors")
    exports.exported(folder / "net.safetensors", "nir", folder / "net.nir")
    return folder / "net.nir"


def test_a_single_value_counts_with_its_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size((1 << 31) - 8)  # nothing of it is stored
        h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        file["none"] = h5py.Empty("f4")
    with pytest.raises(Damaged, match="data sets such as /x, which require 2,048 MiB"):
        hdf5.opened(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["text", "sequence"])
def test_a_value_that_many_elements_share_counts_for_each(graph, kind, tmp_path):
    """References to one value of 1 MB: a file of 1.5 MB would take 20 GB."""
    path, count = tmp_path / "hostile.nir", 20_000
    shutil.copy(graph, path)
    with h5py.File(path, "r+") as file:
        made = h5py.string_dtype() if kind == "text" else h5py.vlen_dtype(np.uint8)
        data = file["node/metadata"].create_dataset("x", (count,), made)
        data[0] = "a" * (1 << 20) if kind == "text" else np.zeros(1 << 20, np.uint8)
        at = data.id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 16 * count] = content[at : at + 16] * count  # length, address and index of the value
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="/node/metadata/x, which require" if kind == "text" else "/x: found elements of"):
        NIR().open(path)


def test_too_many_strings(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (100_000,), h5py.string_dtype())
    with pytest.raises(Damaged, match="/x: found 100,000 strings of variable length, expected at most 65,536"):
        hdf5.opened(tmp_path / "a.h5")
