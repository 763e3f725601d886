"""Files from outside: a message with file and field, the right status, and no effect on what is not damaged."""

import json
import resource
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


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config, state: "[" * 200_000, "configuration: found more than 32 levels"),
        (lambda config, state: config["settings"].update(lr=-1.0), "settings of the checkpoint: lr: found -1.0"),
        (lambda config, state: state.update(extended=[[1, "$(touch x)"]]), "state: extended[0][1]: found '$(touch x)'"),
    ],
)
def test_a_checkpoint_of_other_types_ends_with_4(program, rewritten, tmp_path, change, problem):
    path = rewritten(change)
    result = program("export", path, "--format", "hf", "-o", tmp_path / "net", status=4)
    assert result.stderr.startswith(f"error: {path}: ")
    assert problem in result.stderr
    assert not (tmp_path / "net").exists()


def test_a_small_checkpoint_that_claims_a_large_network(program, rewritten):
    """Of 1.3 GB: its shapes are compared before memory is allocated for it."""
    path = rewritten(lambda config, state: config["model"].update(width_multiplier=16.0, in_channels=20_000), "vggsnn")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = program("eval", path, status=4)
    assert "expected torch.float32 of shape" in result.stderr
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("config.json", "[" * 200_000, "found more than 32 levels"),
        ("metrics.jsonl", "/dev/zero", "found a device"),
        ("gradient-flow.jsonl", '{"epoch": 0, "layers": [9]}\n', "line 1: layers[0]: found 9, expected object"),
    ],
)
def test_one_damaged_run_of_many_is_a_note(lsg, program, trained, tmp_path, name, text, problem):
    """In a table, and in that of an ablation; alone it is an error."""
    for run in ("a", "bad", "c"):
        shutil.copytree(trained, tmp_path / "many" / run)
    bad = tmp_path / "many" / "bad" / name
    bad.unlink()
    if text.startswith("/dev"):
        bad.symlink_to(text)
    else:
        bad.write_text(text)
    result = program("compare", tmp_path / "many", "--html", tmp_path / "page.html", status=0)
    assert f"{bad}: {problem}" in result.stderr
    if name == "gradient-flow.jsonl":  # of which a finished run shows only the history
        assert "the history of the run is not shown" in result.stderr
        return
    assert f"Skipped: {bad}" in result.stderr
    assert f"A = {tmp_path / 'many' / 'a'}: finished" in result.stdout
    assert f"B = {tmp_path / 'many' / 'c'}: finished" in result.stdout
    result = program("ablate", "--collect", tmp_path / "many", status=0)
    if name == "config.json":
        assert f"Skipped: {bad}: {problem}" in result.stdout
    result = program("compare", bad.parent, status=2)
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr


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
