import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from lsgcli.config.run import RunConfig
from lsgcli.data import cache
from lsgcli.errors import StorageError
from lsgcli.system import files

SHAPE, KIND = (5, 2, 3), np.dtype(np.uint8)


def load(path, value=7, **options):
    def fill(array):
        array[:] = value
        return {"value": value}

    return cache.load(path, SHAPE, KIND, fill, **options)


def not_called(array):
    raise AssertionError("the cache was rebuilt")


def test_round_trip(tmp_path):
    path = tmp_path / "sub" / "train-1.npy"
    made, note = load(path)
    found, again = cache.load(path, SHAPE, KIND, not_called)
    assert isinstance(made, np.memmap)
    assert isinstance(found, np.memmap)
    assert not made.flags.writeable
    assert note == again == {"value": 7}
    np.testing.assert_array_equal(found, np.full(SHAPE, 7))
    np.testing.assert_array_equal(made, found)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["train-1.json", "train-1.npy"]


def test_an_unusable_file_is_rebuilt(tmp_path):
    path = tmp_path / "train-1.npy"
    load(path, 1)
    np.testing.assert_array_equal(load(path, 2, usable=lambda note: note["value"] == 2)[0], np.full(SHAPE, 2))
    assert cache.load(path, SHAPE, KIND, not_called)[1] == {"value": 2}


@pytest.mark.parametrize(
    ("keep", "note", "shape", "kind"),
    [
        (None, None, SHAPE, KIND),  # killed between file and note
        (None, "nonsense", SHAPE, KIND),
        (5, "{}", SHAPE, KIND),
        (157, "{}", SHAPE, KIND),
        (None, "{}", (5, 2, 4), KIND),
        (None, "{}", (4, 2, 3), KIND),
        (None, "{}", SHAPE, np.dtype("f2")),
    ],
)
def test_a_file_that_is_damaged_or_without_its_note_is_rebuilt(tmp_path, caplog, keep, note, shape, kind):
    path = tmp_path / "train-1.npy"
    load(path, 1)
    path.with_suffix(".json").unlink()
    if note:
        path.with_suffix(".json").write_text(note)
    content = path.read_bytes()
    assert len(content) == 158
    path.write_bytes(content[:keep])
    found, made = cache.load(path, shape, kind, lambda array: array.fill(2) or {"value": 2})
    np.testing.assert_array_equal(found, np.full(shape, 2))
    assert made == {"value": 2}
    assert caplog.text.count(f"{path}: damaged") == (note is not None)


def test_data_are_prepared_once_if_they_cannot_be_kept(tmp_path, monkeypatch):
    fill = Mock(side_effect=lambda array: array.fill(2) or {"value": 2})
    monkeypatch.setattr(files, "write_json", Mock(side_effect=StorageError("no space")))
    found, note = cache.load(tmp_path / "train-1.npy", SHAPE, KIND, fill)
    assert (fill.call_count, note, found.flags.writeable) == (1, {"value": 2}, False)
    np.testing.assert_array_equal(found, np.full(SHAPE, 2))


def test_a_kill_during_the_note_leaves_nothing(tmp_path):
    path, other = tmp_path / "train-1.npy", tmp_path / f"{files.PARTIAL}0123-train-12.json"
    left = tmp_path / f"{files.PARTIAL}0123-train-1.json"
    for file in (left, other):
        file.write_text("{")
    load(path, 1)
    assert not left.exists()
    assert other.exists()  # another process may be writing it


def test_one_of_two_at_once_builds_and_both_read(tmp_path):
    path, begun = tmp_path / "train-1.npy", threading.Barrier(2)

    def work(value):
        begun.wait()
        return load(path, value)

    with ThreadPoolExecutor(2) as threads:
        (first, _), (second, _) = threads.map(work, (1, 2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("call", "problem"), [("posix_fallocate", (28, "No space left on device")), ("replace", (5, "Input/output error"))]
)
def test_a_disk_that_fails_keeps_memory(tmp_path, monkeypatch, caplog, call, problem):
    """Before or after the array is filled."""
    monkeypatch.setattr(os, call, Mock(side_effect=OSError(*problem)), raising=False)
    array, _ = load(tmp_path / "train-1.npy", 3)
    assert problem[1] in caplog.text
    assert not isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, np.full(SHAPE, 3))
    assert list(tmp_path.iterdir()) == []


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder(RunConfig()) == tmp_path / "lsg"
    assert cache.folder(RunConfig(cache_dir="x")) == Path("x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder(RunConfig()) == Path.home() / ".cache" / "lsg"
