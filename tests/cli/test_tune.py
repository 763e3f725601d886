"""tune: a search that never reads the test part, and settings that train to the accuracy it reports."""

import json
import shutil
import signal
import time

import pytest

from lsgcli.store import checkpoint
from lsgcli.system import schema

AXES = ["--search", "lr=log:1e-3:0.3", "method=lsg,none", "width=0.5:2"]


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
    command = [*command, "--data-dir", unreadable, "--trials", "3"]
    result = lsg(*command, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    best = found["best"]
    assert f"best: trial {best['trial']}, validation accuracy {best['val_accuracy']:.4f}" in result.stderr
    assert [record["state"] for record in found["trials"]] == ["finished"] * 3
    page = (tmp_path / best["run"] / "report.html").read_text()
    assert f"<dt>validation accuracy</dt><dd>{100 * best['val_accuracy']:.2f} %" in page
    assert "<dt>test accuracy</dt>" not in page
    assert "--no-test" in page

    trained = lsg("train", "--config", found["config"], "--data-dir", images, "--out", "again")
    assert trained.exit_code == 0, trained.stderr
    assert max(line["val_accuracy"] for line in schema.read_lines(tmp_path / "again" / "metrics.jsonl")) == best["val_accuracy"]
    first, again = (checkpoint.read_digest(tmp_path / run / "best.safetensors") for run in (best["run"], "again"))
    assert first == again

    repeated = lsg(*command, "-q")
    assert (repeated.stdout, repeated.stderr) == (f"{found['config']}\n", "")
    compared = lsg("compare", "tuned", "--json")
    assert [run["accuracy"] for run in json.loads(compared.stdout)["runs"]] == [None] * 3
    assert lsg("compare", "tuned").exit_code == 0


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--val-fraction", "0"], 2, "--val-fraction: found 0"),
        (["--search", "lr=0.1:0.2"], 2, "found lr twice"),
        (["--trials", "0"], 2, "--trials"),
        (["--method", "none"], 2, "--method: cannot be given"),
        (["--storage", "nosql://x"], 7, "--storage"),
        (["--jobs", "2"], 2, "--jobs: found without --launcher local"),
        (["--cancel"], 2, "--cancel: found without --launcher"),
        (["--launcher", "slrum"], 2, "unknown launcher 'slrum': did you mean slurm"),
    ],
)
def test_usage(lsg, command, options, status, message):
    result = lsg(*command, *options)
    assert result.exit_code == status
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["--launcher", "local", "--jobs", "2"]])
def test_sigterm_and_again(process, command, tmp_path, launcher):
    command = [*command, *launcher, "--trials", "1", "--epochs", "12"]
    one = process(*command)
    metrics = tmp_path / "tuned" / "trials" / "0" / "metrics.jsonl"
    began = time.monotonic()
    while not metrics.exists() and time.monotonic() - began < 60:
        time.sleep(0.02)
    one.send_signal(signal.SIGTERM)
    out, errors = one.communicate(timeout=60)
    assert (one.returncode, out) == (75, ""), errors
    assert "Repeat the command to continue." in errors
    again = process(*command, "--json")
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert [record["epochs"] for record in json.loads(out)["trials"]] == [12]
    assert [line["epoch"] for line in schema.read_lines(metrics)] == list(range(12))


@pytest.mark.slow
def test_local_jobs_make_the_same_study(lsg, command, tmp_path):
    command = [*command, "--trials", "2", "--json"]
    found = []
    for launcher in ([], ["--launcher", "local"]):
        result = lsg(*command, *launcher)
        assert result.exit_code == 0, result.stderr
        found.append([{**trial, "run": ""} for trial in json.loads(result.stdout)["trials"]])
        (tmp_path / "tuned").rename(tmp_path / f"done{len(launcher)}")
    assert found[0] == found[1]
    assert "trials-1: done, accuracy" in result.stderr


@pytest.mark.slow
def test_two_processes_and_one_is_killed(process, command, tmp_path):
    command = [*command, "--trials", "8", "--epochs", "20"]
    killed, other = process(*command), process(*command, "--json")
    began = time.monotonic()
    while len(list((tmp_path / "tuned").glob("trials/*/metrics.jsonl"))) < 3 and time.monotonic() - began < 120:
        time.sleep(0.02)
    killed.kill()
    out, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors
    trials = json.loads(out)["trials"]
    assert sorted(record["trial"] for record in trials) == list(range(8))
