"""Data sets in their folders by default, and what is said where they are not there: in an empty folder."""

import pytest

from lsgcli import registry
from lsgcli.data.datasets.downloaded import Downloaded

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
    assert said.startswith(f"{folder}: found no {name}; downloading {kind.remote()[0].name}")
    assert "MB)" in said or "GB)" in said
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
