import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsgcli.config import RunConfig
from lsgcli.data import cache

SHAPE, KIND = (5, 2, 3), np.dtype(np.uint8)


def fill(path, value=7):
    writer = cache.Writer(path, SHAPE, KIND, {"a": 1})
    writer.array[:] = value
    return writer


def test_round_trip(tmp_path):
    path = tmp_path / "sub" / "train-1.npy"
    made = fill(path).finish()
    found = cache.read(path, SHAPE, KIND)
    assert isinstance(found, np.memmap)
    assert not made.flags.writeable
    np.testing.assert_array_equal(found, np.full(SHAPE, 7))
    np.testing.assert_array_equal(made, found)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["train-1.json", "train-1.npy"]


def test_unfinished_never_looks_finished(tmp_path):
    path = tmp_path / "train-1.npy"
    writer = fill(path)
    assert cache.read(path, SHAPE, KIND) is None
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    """kill -9 half-way: no finished file, and the next preparation removes what was left."""
    path = tmp_path / "train-1.npy"
    code = (
        "import sys, time, numpy as np; from pathlib import Path; from lsgcli.data import cache;"
        f"w = cache.Writer(Path({str(path)!r}), {SHAPE}, np.dtype(np.uint8), {{}}); w.array[:2] = 1;"
        "print('half', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        (left,) = tmp_path.iterdir()
        # A preparation that still runs is left alone.
        fill(path).discard()
        assert left.exists()
        process.kill()
    assert cache.read(path, SHAPE, KIND) is None
    fill(path).finish()
    assert not left.exists()
    np.testing.assert_array_equal(cache.read(path, SHAPE, KIND), np.full(SHAPE, 7))


def test_two_at_once_do_not_clash(tmp_path):
    path = tmp_path / "train-1.npy"
    first, second = fill(path, 1), fill(path, 2)
    np.testing.assert_array_equal(first.finish(), np.full(SHAPE, 1))
    np.testing.assert_array_equal(second.finish(), np.full(SHAPE, 2))
    np.testing.assert_array_equal(cache.read(path, SHAPE, KIND), np.full(SHAPE, 2))


@pytest.mark.parametrize("keep", [0, 5, 64, 128, 157])
def test_a_truncated_file_is_not_used(tmp_path, caplog, keep):
    path = tmp_path / "train-1.npy"
    fill(path).finish()
    content = path.read_bytes()
    assert len(content) == 158
    path.write_bytes(content[:keep])
    with caplog.at_level(logging.WARNING, "lsg"):
        assert cache.read(path, SHAPE, KIND) is None
    assert str(path) in caplog.text


@pytest.mark.parametrize(("shape", "kind"), [((5, 2, 4), "u1"), ((4, 2, 3), "u1"), (SHAPE, "f2")])
def test_a_file_of_another_shape_is_not_used(tmp_path, shape, kind):
    path = tmp_path / "train-1.npy"
    fill(path).finish()
    assert cache.read(path, shape, np.dtype(kind)) is None


def test_a_folder_that_cannot_be_written_keeps_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "lsg"):
        writer = fill(tmp_path / "file" / "train-1.npy", 3)
    assert "in memory" in caplog.text
    np.testing.assert_array_equal(writer.finish(), np.full(SHAPE, 3))


def test_a_full_disk_keeps_memory(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with caplog.at_level(logging.WARNING, "lsg"):
        writer = fill(tmp_path / "train-1.npy", 3)
    assert "No space left" in caplog.text
    np.testing.assert_array_equal(writer.finish(), np.full(SHAPE, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_at_the_end_keeps_the_array(tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", broken)
    with caplog.at_level(logging.WARNING, "lsg"):
        np.testing.assert_array_equal(fill(tmp_path / "train-1.npy", 3).finish(), np.full(SHAPE, 3))
    assert "Input/output error" in caplog.text
    assert cache.read(tmp_path / "train-1.npy", SHAPE, KIND) is None


def test_digest_depends_on_values_not_order():
    assert cache.digest({"a": 1, "b": 2}) == cache.digest({"b": 2, "a": 1})
    assert cache.digest({"a": 1, "b": 2}) != cache.digest({"a": 1, "b": 3})


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder(RunConfig()) == tmp_path / "lsg"
    assert cache.folder(RunConfig(cache_dir="x")) == Path("x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder(RunConfig()) == Path.home() / ".cache" / "lsg"
