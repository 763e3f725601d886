"""Messages name what was found, and what to give instead."""

import shutil

import numpy as np


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
