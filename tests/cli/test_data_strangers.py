"""`lsg data` for somebody who does not know it: data that are half there, wrong places, narrow terminals."""

import json
import os
import shutil

import pytest

from lsgcli import registry
from lsgcli.data import cache
from lsgcli.data.datasets.downloaded import Downloaded
from tests.unit.data.recordings_of import write_nmnist

# tonic and torchvision stand here with a set each.
SETS = [*(name for name in registry.names("dataset") if ":" not in name), "tonic:NMNIST", "torchvision:FashionMNIST"]


@pytest.fixture
def nmnist(tmp_path):
    """A root with two recordings of each of two digits, in both parts."""
    write_nmnist(tmp_path, count=2)
    return tmp_path / "NMNIST"


def at(root, dataset="n-mnist"):
    return ("--dataset", dataset, "--data-dir", root)


@pytest.mark.parametrize(("gone", "left"), [("Train", "test"), ("Test", "train")])
def test_one_part_alone_is_looked_at_with_a_warning(lsg, nmnist, gone, left):
    shutil.rmtree(nmnist / gone)
    result = lsg("data", "info", *at(nmnist), "--json", status=0)
    assert json.loads(result.stdout)["parts"] == {left: 4}
    assert "part is missing" in result.stderr
    assert f"Continuing with the {left} part only" in result.stderr


def test_another_fault_is_not_taken_for_a_missing_part(lsg, nmnist):
    for part in ("Train", "Test"):
        (nmnist / part).rename(nmnist / part.lower())
    shutil.rmtree(nmnist / "test" / "0")
    (nmnist / "test" / "0").mkdir()  # a class without samples
    result = lsg("data", "info", *at(nmnist, "event-folder"), "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "found no samples of this class" in result.stderr


@pytest.mark.parametrize("command", ["info", "verify", "show"])
def test_looking_never_downloads(lsg, tmp_path, monkeypatch, command):
    def download(*arguments, **named):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("lsgcli.data.datasets.downloaded.fetch", download)
    (tmp_path / "empty").mkdir()
    for name in SETS if command == "info" else ["n-mnist"]:
        if registry.get("dataset", name).downloads:
            result = lsg("data", command, *at(tmp_path / "empty", name), *(("-o", "a.png") if command == "show" else ()))
            assert result.exit_code == 3, name
            assert f"lsg data prepare --dataset {name}" in result.stderr
            assert os.listdir(tmp_path / "empty") == []


def test_a_download_under_way_is_told(lsg, tmp_path):
    (tmp_path / "train.zip.part").write_bytes(b"half")
    result = lsg("data", "info", *at(tmp_path), status=3)
    assert "found an unfinished download, expected the content of train.zip" in result.stderr


def test_a_data_dir_that_is_a_file(lsg, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for name in SETS:
        status, told = (3, "file: found a file, expected the folder of the data set")
        if registry.get("dataset", name).embedded:
            status, told = 2, "--data-dir: found"
        for command in [("data", "info"), *([("data", "prepare"), ("train", "--dry-run")] if name == "n-mnist" else [])]:
            result = lsg(*command, *at(tmp_path / "file", name))
            assert (result.exit_code, told in result.stderr) == (status, True), (name, command)


def test_prepared_data_that_cannot_be_kept(lsg, nmnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    early = lsg("data", "prepare", *at(nmnist), "-T", "1", "--cache-dir", tmp_path / "file", "--workers", "0", status=7)
    assert "cannot be written" in early.stderr

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_create", full)
    late = lsg("data", "prepare", *at(nmnist), "-T", "1", "--json", "--workers", "0", status=7)
    assert json.loads(late.stdout)["parts"]["train"]["path"] is None
    assert "could not be written" in late.stderr
    assert "--cache-dir" in late.stderr
    assert lsg("data", "prepare", "--dataset", "digits", "-q").exit_code == 0  # what is never kept is no failure


@pytest.mark.parametrize("columns", [None, "40", "80"])
def test_paths_are_whole(lsg, nmnist, monkeypatch, columns):
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    deep = nmnist.parent / ("a-long-name-of-a-folder-" * 4) / "[deeper]" / ("another-long-name-" * 5)
    deep.parent.mkdir(parents=True)
    nmnist.rename(deep)
    told = lsg("data", "info", *at(deep)).stdout
    assert f"{deep}\n" in told
    kept = deep.parent / "cache"
    assert "\u2026" not in told  # nothing is cut off
    told = lsg("data", "prepare", *at(deep), "-T", "1", "--cache-dir", kept, "-q").stdout
    assert "\u2026" not in told
    for part in ("train", "test"):
        (path,) = (kept / "n-mnist").glob(f"{part}-*.npy")
        assert f"{part}: {path}\n" in told


DOWNLOADED = [name for name in registry.names("dataset") if issubclass(registry.get("dataset", name), Downloaded)]


# A proxy that refuses connections: no network, whatever this machine has, and no look-up of names to wait for.
OFFLINE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}


@pytest.fixture
def typed(lsg, tmp_path, monkeypatch):
    """Run a command in an empty folder without a network."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    return lsg


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_data_without_a_network(typed, tmp_path, name):
    kind = registry.get("dataset", name)
    done = typed("train", "--dataset", name, status=3)
    assert done.stdout == ""
    assert done.stderr.count("error:") == 1
    said, _, told = done.stderr.partition("error:")
    folder = "data" if name.startswith("cifar1") else f"data/{kind.folder}"
    assert said.startswith(f"{folder}: downloading {kind.remote()[0].name}")
    assert "MB)" in said
    assert "no connection" in told
    for file in kind.remote():
        assert file.name in told
        assert file.urls[0] in told
    assert kind.remote()[0].page in told
    assert f"put in {folder}, and repeat the command" in told
    assert list((tmp_path / "empty").iterdir()) == []
    assert not list((tmp_path / "cache").glob("lsg/*"))


@pytest.mark.parametrize(
    ("name", "folder", "file"),
    [
        ("tonic:NMNIST", "data/NMNIST", "train.zip"),
        ("tonic:DVSLip", "data/DVSLip", "DVS-Lip.zip"),
        ("torchvision:FashionMNIST", "data/FashionMNIST/raw", "train-images-idx3-ubyte.gz"),
    ],
)
def test_absent_data_of_a_library_without_a_network(typed, tmp_path, name, folder, file):
    done = typed("train", "--dataset", name)
    assert (done.exit_code, done.stdout) == (3, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    said, _, told = done.stderr.partition("error:")
    assert said.startswith(f"{folder}: found no {name}; ")
    assert file in told
    assert f"in {folder}, and run the same command again" in told
    assert list((tmp_path / "empty").iterdir()) == []
