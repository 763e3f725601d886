"""`lsg push`, and checkpoints named hf:USER/NAME, with a stand-in for the Hub."""

import json
import os
from pathlib import Path

import pytest

from lsgcli.store import checkpoint
from lsgcli.store import hub as remote
from tests.cli.conftest import CONVOLUTIONS
from tests.hub_server import hub

TOKEN = "hf_this-must-not-be-seen"
pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of huggingface_hub, about its use of httpx2


@pytest.fixture
def server(tmp_path, monkeypatch):
    remote._local.cache_clear()
    with hub(TOKEN, tmp_path / "hub") as server:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
    remote._local.cache_clear()


def everything(*roots):
    return b"".join(path.read_bytes() for root in roots for path in Path(root).rglob("*") if path.is_file())


def test_push_and_use(lsg, server, trained, images, tmp_path):
    pushed = lsg("push", trained, "ann/net", "--private", status=0)
    assert pushed.stdout == f"{server.url}/ann/net\n"
    repository = server.repositories["ann/net"]
    assert repository.private
    files = repository.commits[repository.branches["main"]]
    assert files.keys() == {"model.safetensors", "config.json", "README.md"}
    assert b"vggsnn" in files["README.md"]
    for content in files.values():
        assert str(trained.parent).encode() not in content
        assert os.uname().nodename.encode() not in content

    repository.branches["v1"] = repository.branches["main"]
    name = "hf:ann/net@v1"
    data = ["--data-dir", images, "--json"]
    # In fp32, as an export.
    read = [lsg("eval", one, *data, "--precision", "fp32") for one in (name, trained / "best.safetensors")]
    assert [one.exit_code for one in read] == [0, 0]
    losses = [json.loads(one.stdout)["loss"] for one in read]
    assert losses[0] == losses[1]
    flow = lsg("inspect-gradients", name, *data, "--batches", "1", status=0)
    assert json.loads(flow.stdout)["checkpoint"] == name
    exported = lsg("export", name, "-o", tmp_path / "again.safetensors", status=0)
    predicted = lsg("predict", name, images / "test" / "red", "-q")
    assert len(predicted.stdout.splitlines()) == 6, predicted.stderr
    seen = [pushed, *read, flow, exported, predicted]
    assert not any(TOKEN in one.stdout + one.stderr for one in seen)
    assert TOKEN.encode() not in everything(tmp_path, trained)

    server.shutdown()  # the copy in the cache is used
    server.server_close()
    remote._local.cache_clear()
    assert checkpoint.load(remote.local(name))[0].T == 2


def test_a_folder_and_a_repository_that_is_public(lsg, server, trained, tmp_path):
    lsg("export", trained / "best.safetensors", "--format", "hf", "-o", tmp_path / "net")
    (tmp_path / "net" / "README.md").write_text("---\nlicense: mit\n---\nmine")
    (tmp_path / "net" / ".notes").write_text("hidden")
    lsg("push", tmp_path / "net", "ann/net", status=0)
    files = server.repositories["ann/net"].commits[server.repositories["ann/net"].branches["main"]]
    assert files.keys() == {"model.safetensors", "config.json", "README.md"}
    assert files["README.md"].endswith(b"mine")
    refused = lsg("push", tmp_path / "net", "ann/net", "--private", status=2)
    assert "--private: found the public repository ann/net" in refused.stderr


def test_start_from_the_hub(lsg, train, server, trained, tmp_path):
    lsg("push", trained / "best.safetensors", "ann/net")
    train(*CONVOLUTIONS, "--init-from", "hf:ann/net", "--out", tmp_path / "run", "-q", "--epochs", "1", status=0)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["init_from"] == "hf:ann/net"
    assert config["sources"]["init_from"]["sha256"] == checkpoint.read_digest(remote.local("hf:ann/net"))


def test_names_and_permissions(lsg, server, trained, monkeypatch):
    lsg("push", trained / "best.safetensors", "ann/net", "--private")
    for name, status in (("hf:ann", 2), ("hf:ann/net@v9", 4), ("hf:ann/other", 4)):
        result = lsg("eval", name)
        assert (result.exit_code, f"{name}: " in result.stderr) == (status, True), result.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = [lsg("eval", "hf:ann/net"), *(lsg("push", trained / "best.safetensors", name) for name in ("ann/net", "ann/two"))]
    assert [one.exit_code for one in refused] == [4, 7, 7]
    assert "ann/two" in refused[2].stderr
    assert "hf auth login" in refused[1].stderr
    assert not any("hf_wrong" in one.stdout + one.stderr for one in refused)
    for name in ("ann", "ann/net/more", "hf:ann/net"):
        count = len(server.requests)
        invalid = lsg("push", trained / "best.safetensors", name, status=2)
        assert f"{name}: found an invalid name" in invalid.stderr
        assert len(server.requests) == count


def test_the_extra_is_missing(lsg, trained, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for result in (lsg("push", trained / "best.safetensors", "ann/net"), lsg("eval", "hf:ann/net")):
        assert result.exit_code == 2
        assert "pip install 'lsgcli[hub]'" in result.stderr
