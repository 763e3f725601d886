"""Messages name what was found, and what to give instead."""

import shutil

import numpy as np
import pytest

ERRORS = [  # command, parts of the message
    ("train --data-dir D", ["--data-dir: found 'D', which has no effect", "such as event-folder or image-folder"]),
    (
        "tune --search lr=0.001-0.1",
        ["--search: found 'lr=0.001-0.1', expected a finite number in lr=LOW:HIGH, lr=log:LOW:HIGH or lr=VALUE,VALUE,..."],
    ),
    ("tune --search lr=0.1,abc", ["--lr: found 'abc', expected a finite number"]),
    ("tune --search method=lgs,none", ["unknown method 'lgs': did you mean lsg"]),
    ("ablate --grid T=2-4", ["--grid: found 'T=2-4', expected an integer in T=VALUE,VALUE,..."]),
    ("train --lr abc", ["'abc'", "--lr"]),
    ("data show --dataset digits -o x.png --samples 0", ["0", "--samples"]),
]


@pytest.mark.parametrize(("command", "parts"), ERRORS)
def test_errors(program, command, parts):
    result = program(*command.split(), status=2)
    lacking = [part for part in parts if part not in " ".join(result.stderr.split())]
    assert not lacking, result.stderr


def test_a_variable(program):
    result = program("train", env={"LSG_LR": "abc"})
    assert "LSG_LR: found 'abc', expected a finite number" in result.stderr


def test_counts_agree_with_their_nouns(lsg, images, tmp_path):
    shutil.copytree(images, tmp_path / "data")
    (tmp_path / "data" / "train" / "red" / "notes.txt").touch()
    words = ["data", "info", "--dataset", "image-folder", "--data-dir", tmp_path / "data"]
    assert "ignored 1 file of other types, such as notes.txt" in lsg(*words).stderr
    (tmp_path / "data" / "train" / "red" / "more.txt").touch()
    assert "ignored 2 files of other types" in lsg(*words).stderr


def test_the_usual_suffixes_come_first(lsg, tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "notes.txt").touch()
    result = lsg("data", "info", "--dataset", "image-folder", "--data-dir", tmp_path / "data", status=3)
    assert all(f"{suffix}, " in result.stderr for suffix in (".png", ".jpg", ".jpeg"))


def test_arrays_are_named_without_the_suffix_of_their_files(lsg, tmp_path):
    np.savez(tmp_path / "a.npz", ps=np.zeros(3), xs=np.zeros(3))
    result = lsg("data", "info", tmp_path / "a.npz", status=3)
    assert "found arrays ps, xs, expected x, y, t, p" in result.stderr
