"""Files from outside: a message with file and field, the right status, and no effect on what is not damaged."""

import json
import shutil

import pytest
from PIL import Image

from lsgcli.store import checkpoint
from tests.exports import saved
from tests.networks import resealed


@pytest.fixture
def rewritten(tmp_path):
    """A small checkpoint whose metadata are changed by ``change(config, state)``, with digests that fit."""

    def rewrite(change, which="mlp", **arguments):
        path = saved(which, tmp_path / "c.safetensors", **arguments)
        content = checkpoint.read(path)
        config, state = dict(content.config), dict(content.state)
        text = change(config, state)
        return resealed(path, path, config=text if isinstance(text, str) else json.dumps(config), state=json.dumps(state))

    return rewrite


def test_a_checkpoint_of_other_types_ends_with_4(program, rewritten, tmp_path):
    """Rows 52 and 53 of the fault table do this with every field, and with every file of a run."""
    path = rewritten(lambda config, state: state.update(extended=[[1, "$(touch x)"]]))
    result = program("export", path, "--format", "hf", "-o", tmp_path / "net", status=4)
    assert result.stderr.startswith(f"error: {path}: ")
    assert "state: extended[0][1]: found '$(touch x)'" in result.stderr
    assert not (tmp_path / "net").exists()


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


def test_the_batch_size_of_a_checkpoint_costs_nothing(lsg, rewritten, tmp_path, monkeypatch):
    """A million samples were queued in advance, for one file."""
    from lsgcli.data import parallel

    queued = []
    ahead = parallel.ahead
    monkeypatch.setattr(parallel, "ahead", lambda items, most: queued.append(most) or ahead(items, most))
    path = rewritten(lambda config, state: config["settings"].update(batch_size=1 << 20, dataset="cifar10"), "resnet19-add")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    lsg("predict", path, tmp_path / "a.png", "-q", status=0)
    assert queued == [2048]
