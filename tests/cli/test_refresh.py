"""``lsg eval --refresh-norm``: wrong running statistics are replaced in a new checkpoint, and nothing else is changed."""

import hashlib
import json

import pytest
from safetensors.torch import load_file

from lsgcli.store import checkpoint

REFRESH = ("--refresh-norm", 4)


@pytest.fixture
def spoilt(trained, tmp_path):
    """A checkpoint whose running statistics are those of other data."""
    content = checkpoint.read(trained / "best.safetensors")
    weights = {name: value * 40 if "running" in name else value for name, value in content.weights.items()}
    checkpoint.save(tmp_path / "spoilt.safetensors", checkpoint.Checkpoint(weights, content.config, content.state))
    return tmp_path / "spoilt.safetensors"


def test_new_checkpoint(lsg, trained, images, spoilt, tmp_path):
    """Its statistics are like those of the healthy network, its settings and weights those of the old one, which stays as it is."""
    before = hashlib.sha256(spoilt.read_bytes()).digest()
    run = ("eval", spoilt, "--data-dir", images, "--json")
    result = lsg(*run, *REFRESH, "--out", "new.safetensors", status=0)
    assert "re-estimated running statistics on" in result.stderr
    new = json.loads(result.stdout)
    again = json.loads(lsg("eval", "new.safetensors", "--data-dir", images, "--json").stdout)
    assert (again["loss"], again["confusion"]) == (new["loss"], new["confusion"])
    assert hashlib.sha256(spoilt.read_bytes()).digest() == before
    healthy, old, made = (load_file(path) for path in (trained / "best.safetensors", spoilt, tmp_path / "new.safetensors"))
    for name in (name for name in old if "running_var" in name):
        assert (made[name] - healthy[name]).norm() < 0.5 * (old[name] - healthy[name]).norm()
    assert {name for name in made if not made[name].equal(old[name])} == {
        name for name in old if "running_" in name or "num_batches" in name
    }
    stored = checkpoint.read_config(tmp_path / "new.safetensors")
    assert stored.pop("refreshed")["sha256"] == checkpoint.read(spoilt).sha256
    assert stored == checkpoint.read_config(spoilt)
    assert lsg("inspect-gradients", "new.safetensors", "--data-dir", images).exit_code == 0


def test_refusals(lsg, trained, images, spoilt, tmp_path):
    assert lsg("export", spoilt, "-o", "folded.safetensors").exit_code == 0
    assert lsg("export", spoilt, "-o", "whole.safetensors", "--no-fold-bn").exit_code == 0
    assert lsg("export", spoilt, "-o", "net.nir").exit_code == 0
    new = ("--out", "new.safetensors")
    for path, options, status, message in (
        (spoilt, (*REFRESH, "--out", spoilt, "--force"), 2, "spoilt.safetensors"),
        (spoilt, (*REFRESH, "--out", trained / "best.safetensors", "--force"), 2, "best.safetensors"),
        ("folded.safetensors", (*REFRESH, *new), 4, "folded.safetensors"),
        ("whole.safetensors", (*REFRESH, *new), 4, "whole.safetensors"),
        ("net.nir", (*REFRESH, *new), 4, "net.nir"),
    ):
        result = lsg("eval", path, "--data-dir", images, *options)
        assert (result.exit_code, result.stdout) == (status, ""), (path, options)
        assert message in result.stderr
        assert not (tmp_path / "new.safetensors").exists()
    run = ("eval", spoilt, "--data-dir", images, *REFRESH, *new)
    assert lsg(*run).exit_code == 0
    assert "--force" in lsg(*run, status=2).stderr
    assert lsg(*run, "--force").exit_code == 0
