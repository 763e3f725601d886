"""tune: a search that never reads the test part, and settings that train to the accuracy it reports."""

import json
import shutil

import pytest

from lsgcli.store import checkpoint
from lsgcli.system import schema

AXES = ["--search", "lr=log:1e-3:0.3", "method=lsg,fixed", "width=0.5:2"]


@pytest.fixture
def unreadable(images, tmp_path):
    """The images, with a test part of damaged files."""
    shutil.copytree(images, tmp_path / "images")
    for file in (tmp_path / "images" / "test").rglob("*.png"):
        file.write_bytes(b"not an image")
    return tmp_path / "images"


@pytest.fixture
def command(tiny):
    return ["tune", *tiny, "--val-fraction", "0.2", "--threads", "1", "--workers", "0", "--out", "tuned", *AXES]


def test_tune(lsg, train, command, images, unreadable, tmp_path):
    assert train("--data-dir", unreadable).exit_code == 3
    command = [*command, "--data-dir", unreadable, "--trials", "2", "--epochs", "1"]
    result = lsg(*command, "--json", status=0)
    found = json.loads(result.stdout)
    best = found["best"]
    assert f"best: trial {best['trial']}, validation accuracy {best['val_accuracy']:.4f}" in result.stderr
    assert [record["state"] for record in found["trials"]] == ["finished"] * 2
    page = (tmp_path / best["run"] / "report.html").read_text()
    assert f"<dt>validation accuracy</dt><dd>{100 * best['val_accuracy']:.2f} %" in page
    assert "<dt>test accuracy</dt>" not in page
    assert "--no-test" in page

    lsg("train", "--config", found["config"], "--data-dir", images, "--out", "again", status=0)
    assert max(line["val_accuracy"] for line in schema.read_lines(tmp_path / "again" / "metrics.jsonl")) == best["val_accuracy"]
    first, again = (checkpoint.read_digest(tmp_path / run / "best.safetensors") for run in (best["run"], "again"))
    assert first == again

    repeated = lsg(*command, "-q")
    assert (repeated.stdout, repeated.stderr) == (f"{found['config']}\n", "")
    compared = lsg("compare", "tuned", "--json")
    assert [run["accuracy"] for run in json.loads(compared.stdout)["runs"]] == [None] * 2
    assert lsg("compare", "tuned").exit_code == 0
