"""Files that others change while a run is stopped, or while it trains."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsgcli.training.loop import Trainer


def repainted(file):
    """Another image in the file, with the same number of bytes."""
    content = file.read_bytes()
    pixels = np.asarray(Image.open(file)).copy()
    for value in range(256):
        pixels[3, 3] = value
        Image.fromarray(pixels).save(file)
        if len(file.read_bytes()) <= len(content):
            break
    file.write_bytes(file.read_bytes().ljust(len(content), b"\0"))
    assert file.read_bytes() != content


@pytest.fixture
def begun(train, images, tmp_path):
    """A run on a copy of the images."""
    shutil.copytree(images, tmp_path / "data")
    assert train("--data-dir", tmp_path / "data", "--out", "run").exit_code == 0
    return tmp_path / "data"


def test_images_overwritten_in_place(lsg, begun):
    repainted(begun / "train" / "red" / "00.png")
    result = lsg("train", "--resume", "run", "--epochs", "3", status=3)
    assert f"{begun}: found files with other contents, expected those with which the run run began" in result.stderr
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 2
    pixels = np.zeros((16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(begun / "test" / "red" / "00.png")
    result = lsg("train", "--resume", "run", "--epochs", "3", status=3)
    assert "found other files, or files of other sizes" in result.stderr


def test_copied_images(lsg, begun, tmp_path):
    """Or touched ones: the same data at another place or with other times."""
    shutil.copytree(begun, tmp_path / "copy", copy_function=shutil.copyfile)
    result = lsg("train", "--resume", "run", "--epochs", "3", "--data-dir", tmp_path / "copy", status=0)
    assert f"{tmp_path / 'copy'}: found files with other times than at the start of the run" in result.stderr
    config = json.loads(Path("run/config.json").read_text())
    del config["data_files"]  # as in a run of an earlier version
    Path("run/config.json").write_text(json.dumps(config))
    os.utime(begun / "train" / "red" / "00.png")
    result = lsg("train", "--resume", "run", "--epochs", "4", status=0)
    assert "other times" not in result.stderr


def test_records_deleted_during_a_run_are_written_again(train, lsg, monkeypatch):
    names = ("metrics.jsonl", "gradient-flow.jsonl")
    assert train("--out", "whole", "--epochs", "3").exit_code == 0
    assert train("--out", "run", "--epochs", "1").exit_code == 0
    original, seen = Trainer._end_epoch, []

    def deleted(trainer, *arguments):
        original(trainer, *arguments)
        seen.append(trainer.state.epoch)
        if len(seen) == 1:
            for name in names:
                (trainer.run.path / name).unlink()

    for command in (lambda: train("--out", "again", "--epochs", "3"), lambda: lsg("train", "--resume", "run", "--epochs", "3")):
        seen.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_end_epoch", deleted)
            result = command()
        assert result.exit_code == 0, result.stderr
        for name in names:
            assert f"{name}: was deleted during the run; rewritten" in result.stderr

    def records(run, name):
        lines = Path(run, name).read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key in ("epoch", "layers")} for line in lines]

    for name in names:
        assert records("again", name) == records("whole", name)
        assert [line["epoch"] for line in records("run", name)] == [0, 1, 2]


def test_records_deleted_while_stopped_are_missed(train, lsg):
    assert train("--out", "run", "--log", "csv").exit_code == 0
    os.unlink("run/metrics.jsonl")
    result = lsg("train", "--resume", "run", "--epochs", "3", status=0)
    assert "metrics.jsonl: found records of 0 epochs, expected 2" in result.stderr
    (run,) = json.loads(lsg("compare", "run", "--json").stdout)["runs"]
    assert (run["epochs"], run["of"]) == (3, 3)
