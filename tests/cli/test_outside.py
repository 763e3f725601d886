"""Files from outside have no effect on what is not damaged; rows 52 and 53 of the fault table have their messages."""

import json
import shutil

from PIL import Image

from lsgcli.store import checkpoint
from tests.exports import saved
from tests.networks import resealed


def test_one_damaged_run_of_many_is_a_note(program, trained, tmp_path):
    """In a table, and in that of an ablation; alone it is an error."""
    for run in ("a", "bad", "c"):
        shutil.copytree(trained, tmp_path / "many" / run)
    bad = tmp_path / "many" / "bad" / "config.json"
    bad.write_text("[" * 200_000)
    result = program("compare", tmp_path / "many", status=0)
    assert f"Skipped: {bad}: found more than 32 levels" in result.stderr
    assert f"B = {tmp_path / 'many' / 'c'}: finished" in result.stdout
    assert f"Skipped: {bad}" in program("ablate", "--collect", tmp_path / "many", status=0).stdout
    assert "error: " in program("compare", bad.parent, status=2).stderr


def test_the_batch_size_of_a_checkpoint_costs_nothing(lsg, tmp_path, monkeypatch):
    """A million samples were queued in advance, for one file."""
    from lsgcli.data import parallel

    queued = []
    ahead = parallel.ahead
    monkeypatch.setattr(parallel, "ahead", lambda items, most: queued.append(most) or ahead(items, most))
    path = saved("resnet19-add", tmp_path / "c.safetensors")
    config = checkpoint.read(path).config
    config["settings"] |= {"batch_size": 1 << 20, "dataset": "cifar10"}
    resealed(path, path, config=json.dumps(config))
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    lsg("predict", path, tmp_path / "a.png", "-q", status=0)
    assert queued == [2048]
