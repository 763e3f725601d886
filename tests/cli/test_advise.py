"""``lsg inspect-gradients --advise`` and ``--try``, on a run with a threshold that few potentials reach."""

import hashlib
import json
import shutil

import pytest
from typer.testing import CliRunner

from lsgcli.cli.app import app
from lsgcli.store.rundir import read_config, read_last_epoch
from lsgcli.sweeps import remedies
from lsgcli.sweeps.cells import check_data
from lsgcli.sweeps.jobs import CellState, file_of
from tests.cli.conftest import CONVOLUTIONS
from tests.exports import slow_if
from tests.flows import problems


@pytest.fixture(scope="module")
def never_fires(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("broken") / "run"
    words = ["train", *tiny, *CONVOLUTIONS, "--method", "fixed", "--norm", "bn", "--threshold", "40", "--out", str(run), "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return run


@pytest.fixture
def broken(never_fires, tmp_path):
    return shutil.copytree(never_fires, tmp_path / "a run")


def digests(run):
    files = [path for path in run.rglob("*") if path.is_file() and "tried" not in path.parts]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_findings_and_remedies(lsg, broken):
    before = digests(broken)
    result = lsg("inspect-gradients", broken, "--advise", "--json", "-q", "--batches", "1", status=0)
    flow = json.loads(result.stdout)
    assert problems(flow) == []
    first = flow["findings"][0]
    assert (first["rule"], first["severity"]) == ("potential-scale", "error")
    assert first["remedy"]["settings"] == {"threshold": 0.5}
    assert first["command"] == f"lsg train --config '{broken}' --threshold 0.5"
    assert flow["batch_invariant"] is True
    assert all(layer["tgc"] is None or -1 <= layer["tgc"] <= 1 for layer in flow["layers"])
    text = lsg("inspect-gradients", broken, "--advise", "-q").stdout
    assert "1. potential-scale (error): conv1" in text
    assert first["command"] in text
    gated = lsg("inspect-gradients", broken, "--advise", "-q", "--fail-on", "potential-scale", "--limit", "blocked=1", status=9)
    assert "potential-scale: conv1, conv2, conv3, conv4 and 4 more" in gated.stderr
    moved = ["--limit", "silent=0", "--fail-on", "silent"]
    assert lsg("inspect-gradients", broken, "--advise", "-q", *moved).exit_code == 0
    assert digests(broken) == before


@pytest.mark.parametrize("jobs", [[], slow_if(True, ["--jobs", "2"])])
def test_try(lsg, broken, jobs):
    before = digests(broken)
    arguments = ["inspect-gradients", broken, "--advise", "--try", "1", "--json", "-q", *jobs]
    result = lsg(*arguments, status=0)
    rows = json.loads(result.stdout)["tried"]
    assert rows[0]["remedy"] == "unchanged"
    assert rows[1]["remedy"] == "threshold=0.5"
    assert "potential-scale" in rows[1]["gone"]
    assert all(row["epochs"] == 1 and 0 <= row["accuracy"] <= 1 and row["loss"] > 0 for row in rows)
    assert digests(broken) == before
    kept = {row["run"]: (broken.parent / row["run"] / "result.json").stat().st_mtime_ns for row in rows}
    again = lsg(*arguments)
    assert json.loads(again.stdout)["tried"] == rows
    assert kept == {row["run"]: (broken.parent / row["run"] / "result.json").stat().st_mtime_ns for row in rows}
    assert "threshold=0.5" in lsg(*[word for word in arguments if word != "--json"]).stdout


def test_a_remedy_that_fails_is_a_row(broken):
    """And the unchanged run is the run itself, if that has as many epochs."""
    epochs = read_config(broken).epochs
    tried = remedies.trials(broken, [{"remedy": {"settings": {"threshold": one}}} for one in (0.5, -1.0)], epochs)
    unchanged, remedy = tried.cells
    assert unchanged.path == broken
    assert file_of(remedy.path, ".log").parent == tried.root / "jobs"  # where launchers follow it
    check_data(tried.cells)
    tried.ended(remedy, CellState("failed", message="out of memory"))
    rows = remedies.table(tried)
    assert rows[0]["accuracy"] == read_last_epoch(broken)["val_accuracy"]
    assert {row["remedy"]: bool(row["failed"]) for row in rows} == {
        "unchanged": False,
        "threshold=0.5": True,
        "threshold=-1.0": True,
    }


def test_remedies_keep_the_warm_up(train, tmp_path):
    """Its share of the epochs."""
    train("--epochs", "2", "--warmup-epochs", "1", "--out", "run", "-q", status=0)
    tried = remedies.trials(tmp_path / "run", [{"remedy": {"settings": {"threshold": 0.3}}}], 6)
    assert [cell.config.warmup_epochs for cell in tried.cells] == [3, 3]
