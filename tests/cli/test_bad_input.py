"""Bad input: its exit status, one clear message, no traceback, nothing left behind."""

import shutil

import numpy as np
import pytest

from tests.cli.conftest import TINY


@pytest.fixture
def home(images, tmp_path):
    """The working directory: data, an empty folder, and a file of settings."""
    (tmp_path / "empty").mkdir()
    shutil.copytree(images, tmp_path / "whole")
    (tmp_path / "run.toml").write_text("learning_rat = 0.1\nbach_size = 4\n")
    return tmp_path


# Damaged data, a directory that cannot be written or is in use: rows 16, 17 and 21 of the fault table.
OF_IMAGES = "--dataset image-folder --data-dir"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--dataset cifra10", 2, "did you mean cifar10"),
        (f"{OF_IMAGES} empty", 3, "empty"),
        ("-T 0", 2, "-T: found 0, expected at least 1"),
        ("--config run.toml", 2, "batch_size"),
        (f"{OF_IMAGES} whole --batch-size 4 --accumulate 5", 2, "--accumulate: found 5, expected at most the batch size, 4"),
    ],
)
def test_train(lsg, home, options, status, message):
    before = sorted(path for path in home.rglob("*") if "cache" not in path.parts)
    result = lsg("train", *TINY, *options.split(), status=status)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert sorted(path for path in home.rglob("*") if "cache" not in path.parts) == before


def test_one_value_of_each_channel(lsg, images):
    data = ("--dataset", "image-folder", "--data-dir", images, "--arch", "mlp", "-T", "1", "--size", "16", "--batch-size", "1")
    result = lsg("train", *data, "--dry-run", status=2)
    assert "found one value per channel" in result.stderr
    assert "Traceback" not in result.stderr


def test_recordings_of_another_sensor(lsg, tmp_path):
    rng = np.random.default_rng(0)
    for folder, side in (("small", 32), ("large", 64)):
        for split in ("train", "test"):
            for name in ("a", "b"):
                (tmp_path / folder / split / name).mkdir(parents=True)
                for index in range(8):
                    x, y = rng.integers(0, side, (2, 200))
                    events = {"x": x, "y": y, "t": np.arange(200) * 100, "p": rng.integers(0, 2, 200), "sensor": [side, side]}
                    np.savez(tmp_path / folder / split / name / f"{index}.npz", **events)
    path = lsg("train", "--dataset", "event-folder", "--data-dir", tmp_path / "large", *TINY, "-q").stdout.strip()
    assert lsg("eval", path, "--data-dir", tmp_path / "large").exit_code == 0
    result = lsg("eval", path, "--data-dir", tmp_path / "small", status=3)
    assert "sensor [32, 32], expected [64, 64]" in result.stderr
