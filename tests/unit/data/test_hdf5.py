"""HDF5 files of strangers: nothing outside them is read, and no more memory is taken than their size explains."""

import os
import shutil
import time

import h5py
import numpy as np
import pytest

from lsgcli import registry
from lsgcli.data import hdf5
from lsgcli.data.guard import Damaged
from lsgcli.errors import CheckpointError, DataError
from lsgcli.export.nir import NIR
from tests import exports, networks
from tests.hostile_hdf5 import FAULTS, OTHER_FILES, SECRET, datasets
from tests.unit.data import recordings_of

pytest.importorskip("nir")

FOUND = {
    "external_storage": "external storage",
    "external_link": "an external link",
    "soft_link_out": "found a soft link|found an external link",
    "virtual": "a virtual data set",
    "unwritten": "require",
    "large_chunk": "require",
    "loop": "a second link",
    "doubled": "a second link",
    "deep": "nested groups",
}


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nir")
    networks.saved(folder / "net.safetensors")
    exports.exported(folder / "net.safetensors", "nir", folder / "net.nir")
    return folder / "net.nir"


@pytest.mark.parametrize("fault", FAULTS)
def test_nir(fault, graph, secret, tmp_path):
    path = tmp_path / "hostile.nir"
    shutil.copy(graph, path)
    with h5py.File(path, "r+") as file:
        FAULTS[fault](file, "node/nodes/classifier/bias", secret)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=FOUND[fault]) as caught:
        NIR().open(path)
    assert str(path) in str(caught.value)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["labels", "spikes/units", "extra/keys"])
def test_shd(fault, name, config, secret, tmp_path):
    path = tmp_path / "shd_test.h5"
    recordings_of.write_shd(path, [[(0.1, 5)], [(0.2, 7)]], [3, 12])
    with h5py.File(path, "r+") as file:
        FAULTS[fault](file, name, secret)
    for dataset in ("shd", "tonic:SHD"):
        folder = tmp_path / "SHD"
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
        made = registry.get("dataset", dataset)(config(dataset, data_dir=str(tmp_path)), may_download=False)
        with pytest.raises(DataError, match=FOUND[fault]):
            made.scan(("test",))


def test_no_other_file_is_opened(tmp_path, secret):
    """The other file is a pipe: reading it would wait for a writer."""
    for fault in OTHER_FILES:
        path = tmp_path / f"{fault}.h5"
        with h5py.File(path, "w") as file:
            file["x"] = np.arange(10, dtype="u1")
            FAULTS[fault](file, "x", secret)
        other = secret if fault == "external_storage" else secret.with_suffix(".h5")
        other.unlink()
        os.mkfifo(other)
        with pytest.raises(Damaged):
            hdf5.opened(path)
        other.unlink()
        secret.write_bytes(SECRET)


def test_every_data_set_of_a_graph(graph, secret, tmp_path):
    for name in datasets(graph):
        path = tmp_path / "hostile.nir"
        shutil.copy(graph, path)
        with h5py.File(path, "r+") as file:
            OTHER_FILES["external_storage"](file, name, secret)
        with pytest.raises(CheckpointError, match=f"/{name}: found a data set in external storage"):
            NIR().open(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "device"])
def test_no_regular_file(make, tmp_path):
    make(tmp_path / "a.h5")
    with pytest.raises(Damaged, match="expected a regular file"):
        hdf5.opened(tmp_path / "a.h5")


def test_ordinary_files(graph, tmp_path):
    recordings_of.write_shd(tmp_path / "a.h5", [[(0.1, 5)]] * 3, [1, 2, 3])
    for path in (graph, tmp_path / "a.h5"):
        with hdf5.opened(path) as file:
            assert len(file)


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
