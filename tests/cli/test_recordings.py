"""Recordings that were wrongly accepted or refused, through the command line."""

import os

import numpy as np
import pytest

from tests.stress import seeds

ROWS = seeds.rows(0, 200, 128, 128)


@pytest.fixture
def folder(tmp_path):
    """Two recordings of 128x128 in each of two classes, in both parts."""
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / "data" / part / name / f"{i}.aedat").write_bytes(seeds.aedat2(ROWS))
    return tmp_path / "data"


def prepare(folder, *options):
    return ("data", "prepare", "--dataset", "event-folder", "--data-dir", folder, "-T", "2", "--size", "16", *options)


def polarities(path):
    np.savez(path, x=np.arange(100), y=np.arange(100), t=np.arange(100), p=np.arange(100))


def prose(path):
    path.write_text("A recording of a camera this is not, whatever its name may say of it!!")


def regular(path):
    count = 2_000_000
    zero = np.zeros(count, np.uint16)
    np.savez_compressed(path, x=zero, y=zero, t=np.arange(count) // 1000, p=zero > 0)


@pytest.mark.parametrize(
    ("name", "write", "status", "said"),
    [
        ("a.npz", polarities, 3, "a.npz: event 99: found p = 99, expected an integer from -1 to 1"),
        ("a.bin", prose, 3, "a.bin: byte 0: found text"),
        ("a.npz", regular, 0, ""),
    ],
    ids=["polarity", "prose", "regular"],
)
def test_one_recording(lsg, tmp_path, name, write, status, said):
    write(tmp_path / name)
    result = lsg("data", "info", tmp_path / name)
    assert result.exit_code == status
    assert said in result.stderr


def test_a_sensor_that_the_files_contradict(lsg, folder):
    result = lsg(*prepare(folder, "--sensor", "346x260"))
    assert result.exit_code == 3
    assert "0.aedat: found a sensor of 128x128, expected 346x260" in result.stderr
    assert lsg(*prepare(folder, "--sensor", "128x128")).exit_code == 0


def test_a_circle_of_links(lsg, folder):
    (folder / "train" / "a" / "loop.aedat").symlink_to("loop.aedat")
    result = lsg(*prepare(folder))
    assert result.exit_code == 3
    assert "loop.aedat: cannot be read" in result.stderr
    result = lsg(*prepare(folder, "--skip-bad"))
    assert result.exit_code == 0
    assert "skipped 1 unreadable sample:" in result.stderr


def test_a_missing_library(tmp_path, process):
    """Without the package that reads AEDAT 4: one clear hint, and the status of a wrong installation."""
    (tmp_path / "a.aedat4").write_bytes(seeds.aedat4(ROWS))
    (tmp_path / "aedat.py").write_text("raise ModuleNotFoundError('no aedat')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    started = process("data", "info", tmp_path / "a.aedat4", env={**os.environ, "PYTHONPATH": path})
    _, stderr = started.communicate(timeout=120)
    assert started.returncode == 2, stderr
    assert "pip install 'lsgcli[aedat4]'" in stderr
