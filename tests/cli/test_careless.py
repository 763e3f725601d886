"""What a careless user gives the whole program: unset variables, options without effect, odd files, narrow terminals."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from lsgcli.store import checkpoint
from tests.exports import saved
from tests.networks import resealed


def process(*arguments, **streams):
    """Run a command to its end in a process of its own: exit status, stderr."""
    command = [sys.executable, "-m", "lsgcli", *arguments]
    return subprocess.run(command, check=False, text=True, timeout=100, stderr=subprocess.PIPE, **streams)


def refused(result, *parts, status=2):
    assert result.returncode == status, result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr


def test_settings_without_effect_are_all_named_at_once(program, tmp_path):
    (tmp_path / "run.toml").write_text("residual = 'sew'\n")
    given = ("--width", "5", "--window-us", "9", "--data-dir", "here", "--config", "run.toml")
    parts = (
        "--config run.toml: --residual: found 'sew'",
        "environment: --tet-lambda: found 0.5",
        *("\n--width: found 5.0", "--window-us: found 9", "--data-dir: found 'here'"),
    )
    refused(program("train", *given, "--loss", "ce", env={"LSG_TET_LAMBDA": "0.5"}), *parts)


@pytest.mark.parametrize("words", [("ablate", "--seeds", "", "--print-commands"), ("train", "--out="), ("eval", "")])
def test_an_empty_string_is_refused(program, words):
    refused(program(*words), "found an empty string")


def test_variables_that_a_command_does_not_take(program, trained):
    warned = program(
        "eval", trained / "none.safetensors", env={"LSG_T": "8", "LSG_EPOCHS": "5", "LSG_BATCH_SIZE": "4"}, status=4
    )
    assert "LSG_T, LSG_EPOCHS: found in the environment, without effect" in warned.stderr
    assert "LSG_BATCH_SIZE" not in warned.stderr
    resumed = program("train", "--resume", "nowhere", env={"LSG_EPOCHS": "5"}, status=2)
    assert "LSG_EPOCHS: found in the environment, without effect" in resumed.stderr


def test_advice_is_of_options_that_the_command_has(program, trained, images, tmp_path):
    shutil.copytree(images / "test", tmp_path / "data")
    result = program("eval", trained / "best.safetensors", "--data-dir", "data")
    refused(result, "data laid out as in training (--split not given)", status=3)
    assert "stratified" not in result.stderr


def test_a_full_disk():
    with open("/dev/full", "w") as full:
        result = process("--help", stdout=full)
    assert result.returncode == 7
    assert result.stderr.splitlines()[-1] == "error: cannot write output: No space left on device"


def test_a_narrow_terminal_shows_every_cell():
    from lsgcli.report.terminal import console, table

    shown = table(("class", "accuracy", "0"), [["[i]x" * 5, "0.500", "12"]], "per class")
    for width, expected in (
        (40, [shown.columns[0].header.plain, "accuracy", "[i]x[i]x[i]x[i]x[i]x", "0.500"]),
        (20, ["per class", "[i]x[i]x[i]x[i]x[i]x", "accuracy: 0.500", "0: 12"]),
    ):
        stream = io.StringIO()
        out = console(stream)
        out.width = width
        out.print(shown)
        assert all(part in stream.getvalue() for part in expected)
        assert ("accuracy: 0.500" in stream.getvalue()) is (width == 20)


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


def test_records_deleted_while_stopped_are_missed(train, lsg):
    assert train("--out", "run", "--log", "csv").exit_code == 0
    os.unlink("run/metrics.jsonl")
    result = lsg("train", "--resume", "run", "--epochs", "3", status=0)
    assert "metrics.jsonl: found records of 0 epochs, expected 2" in result.stderr
    (run,) = json.loads(lsg("compare", "run", "--json").stdout)["runs"]
    assert (run["epochs"], run["of"]) == (3, 3)


@pytest.mark.parametrize("words", ["list archs", "show --arch mlp --json", "--version"])
def test_a_result_without_stdout_is_not_lost_in_silence(tmp_path, words):
    command = f"{sys.executable} -m lsgcli {words} >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (7, "error: cannot write output: Bad file descriptor\n")
