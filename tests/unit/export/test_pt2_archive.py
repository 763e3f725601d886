"""A PT2 that could run code is refused before torch sees it; those that lsg writes are opened as they are."""

import json
import zipfile

import pytest
import torch

from lsgcli import registry
from lsgcli.errors import CheckpointError
from lsgcli.export.pt2 import inert
from tests.exports import exported, samples, saved
from tests.hostile_pt2 import ATTACKS, attacked, each, guard, sample_inputs


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    exported(saved("vggsnn", folder / "c.safetensors"), "pt2", folder / "net.pt2")
    return folder / "net.pt2"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_attack_is_one(net, tmp_path):
    """torch itself runs it, so that the tests below are about something."""
    with pytest.raises((AssertionError, TypeError)):  # of what it returned; and torch's own message of that has a fault
        torch.export.load(attacked(net, "bad.pt2", sample_inputs))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_refused_and_nothing_run(net, tmp_path, attack):
    with pytest.raises(CheckpointError, match="no code was executed"):
        registry.get("format", "pt2")().open(attacked(net, tmp_path / "bad.pt2", attack))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt2"]


def test_guards_are_dropped(net, tmp_path):
    """They are Python code that checks the inputs' shapes."""
    runner = registry.get("format", "pt2")().open(attacked(net, tmp_path / "bad.pt2", guard))
    runner.run(next(samples(runner.config, 2)).x)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("text", ["x.__class__", "a b", "f()", "a/b", "a'"])
def test_names_are_plain(net, tmp_path, text):
    def rename(members):
        program = json.loads(members["archive/models/model.json"])
        each(program, "parameter_name", lambda name: text)
        members["archive/models/model.json"] = json.dumps(program).encode()

    with pytest.raises(CheckpointError, match="parameter_name"):
        inert(attacked(net, tmp_path / "bad.pt2", rename))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "compression"), [("archive/byteorder", zipfile.ZIP_STORED), ("archive/new", zipfile.ZIP_DEFLATED)]
)
def test_compressed_and_repeated_members(net, tmp_path, name, compression):
    with zipfile.ZipFile(attacked(net, tmp_path / "bad.pt2"), "a") as archive:
        archive.writestr(name, "little", compress_type=compression)
    with pytest.raises(CheckpointError, match="compressed or repeated"):
        inert(tmp_path / "bad.pt2")
