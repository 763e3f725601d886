"""ablate and tune: tables from runs however often they were stopped; a search that never reads the test part."""

import json
import shlex
import shutil

import pytest

from lsgcli.errors import Stopped
from lsgcli.store import checkpoint
from lsgcli.system import schema
from lsgcli.training.loop import Trainer


def test_ablate(lsg, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("lsgcli.report.drawing.SUFFIXES", (".svg",))  # the others take longer
    command = ["ablate", *tiny, "--epochs", "1", "--out", "abl", "--seeds", "0", "-q"]
    result = lsg(*command, "--grid", "method=fixed,lsg", "width=0.5,1", "--json", status=0)
    rows = json.loads(result.stdout)["rows"]
    assert [(row["method"], row["width"]) for row in rows] == [("fixed", 0.5), ("fixed", 1.0), ("lsg", None)]
    for row in rows:
        assert row["n"] == len(row["accuracies"]) == len(row["last"]) == 1
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "abl").rglob("last.safetensors")}
    assert len(times) == 3  # under lsg, a width has no effect
    assert all((path.parent / "report.html").exists() for path in times)
    again = lsg(*command, "--grid", "method=fixed,lsg", "width=0.5,1", "--json", "--format", "json")
    assert json.loads(again.stdout)["rows"] == rows
    assert times == {p: p.stat().st_mtime_ns for p in times}  # nothing ran again
    collected = lsg("ablate", "--collect", "abl", "--json", "--plot", "plots")
    assert collected.stdout == result.stdout
    for form, sign in (("markdown", "| lsg |"), ("csv", "lsg,"), ("latex", "lsg & ")):
        assert sign in lsg("ablate", "--collect", "abl", "--format", form).stdout
    assert {p.name for p in (tmp_path / "plots").iterdir()} >= {"accuracy.svg", "loss.svg", "coverage.svg"}


def test_tables_that_share_rows_share_their_runs(lsg, tiny, tmp_path):
    command = ["ablate", *tiny, "--epochs", "1", "--out", "abl", "-q", "--seeds", "0"]
    first = json.loads(lsg(*command, "--json", "--table", "1", status=0).stdout)["rows"]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "abl").rglob("last.safetensors")}
    assert sorted(path.parent.parent.name for path in times) == ["method=fixed", "method=lsg", "method=trainable-decay"]
    for _ in range(2):
        rows = json.loads(lsg(*command, "--json", "--table", "2", status=0).stdout)["rows"]
        folders = {path.parent.parent.name for path in (tmp_path / "abl").rglob("last.safetensors")}
        assert "method=fixed-width=1.0" not in folders
        assert len(folders) == 3 + 4
        assert (rows[0]["accuracies"], rows[-1]["accuracies"]) == (first[0]["accuracies"], first[2]["accuracies"])
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert "ignored" not in lsg("ablate", "--collect", "abl", "--json", status=0).stdout
    more = lsg(*command[:-1], "0-1", "--table", "2", "--print-commands", status=0).stdout.splitlines()
    assert "abl/method=fixed/s1" in more[0]


@pytest.fixture
def small(tiny):
    axes = ["--grid", "method=fixed,lsg", "--seeds", "0-1", "--out", "abl", "--threads", "1", "--workers", "0"]
    return ["ablate", *tiny, "--epochs", "1", *axes]


def undisturbed(lsg, command):
    """The rows of an ablation, run elsewhere in one go."""
    result = lsg(*command, "--out", "undisturbed", "-q", "--json", status=0)
    return json.loads(result.stdout)["rows"]


def test_printed_commands_make_the_same_table(lsg, small, tmp_path):
    one_seed = [*small, "--seeds", "0"]
    printed = lsg(*one_seed, "--print-commands", "-q", status=0)
    assert len(printed.stdout.splitlines()) == 2
    assert sorted(p.name for p in (tmp_path / "abl").rglob("*")) == ["ablation.json"]
    collected = lsg("ablate", "--collect", "abl", "--json")
    assert [one["state"] for one in json.loads(collected.stdout)["missing"]] == ["not started"] * 2
    assert collected.stderr == ""
    for line in printed.stdout.splitlines():
        words = shlex.split(line)
        assert lsg(*words[words.index("lsg") + 1 :]).stdout  # the path of a checkpoint
    collected = json.loads(lsg("ablate", "--collect", "abl", "--json").stdout)
    assert (collected["rows"], collected["missing"]) == (undisturbed(lsg, one_seed), [])
    again = lsg(*one_seed, "--print-commands")
    assert again.stdout == ""
    assert "2 of 2 runs are finished" in again.stderr


def test_paths_are_quoted(lsg, small):
    result = lsg(*small, "--out", "a b", "--print-commands")
    assert shlex.split(result.stdout.splitlines()[0])[-2:] == ["--out", "a b/method=fixed/s0"]
    assert "lsg ablate --collect 'a b'" in result.stderr


def test_a_run_that_goes_on_has_no_result_until_its_end(trained, images, monkeypatch, tmp_path, lsg):
    shutil.copytree(trained, tmp_path / "run")
    assert (tmp_path / "run" / "result.json").exists()

    def train(self):
        raise Stopped("stopped")

    monkeypatch.setattr(Trainer, "train", train)
    assert lsg("train", "--resume", tmp_path / "run", "--data-dir", images, "-q").exit_code == 75
    assert not (tmp_path / "run" / "result.json").exists()


AXES = ["--search", "lr=log:1e-3:0.3", "method=lsg,fixed", "width=0.5:2"]


@pytest.fixture
def unreadable(images, tmp_path):
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
