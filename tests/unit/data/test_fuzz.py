"""A short run of the fuzzer; the long one is `python -m tests.stress.fuzz`."""

import os
from pathlib import Path

import numpy as np
import pytest

from lsgcli.data import readers
from lsgcli.data.events import Events
from lsgcli.errors import DataError
from tests.stress import fuzz, seeds

pytestmark = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells the peak of memory")


@pytest.mark.parametrize("name", seeds.FORMATS)
def test_damaged_recordings(name):
    result = fuzz.fuzz(name, 100, seed=1)
    assert result["failures"] == []
    assert result["events"] + result["refused"] == result["mutants"] == 100
    assert result["events"] > 1
    assert result["refused"] > 50


def test_damaged_aedat4_of_a_camera(shared):
    result = fuzz.fuzz("aedat4", 100, seed=2, data=shared("dvs128-objects-dev") / "aedat4")
    assert result["failures"] == []


def test_mutants_can_be_made_again():
    recordings = seeds.FORMATS["aedat2"][1](None)
    first, second = ([fuzz.mutant("aedat2", i, 3, recordings) for i in range(40)] for _ in range(2))
    assert first == second
    assert len({content for _, content in first}) > 30


def events(x, t):
    return Events(np.array(x, np.uint16), np.zeros(len(x), np.uint16), np.array(t, np.int64), np.ones(len(x), bool), None)


def too_much(path, sensor):
    held = np.ones(80 << 20, np.uint8)
    return events([int(held[0])], [1])


def refuse(message):
    def read(path, sensor):
        raise DataError(f"{path}: {message}" if message else "somewhere")

    return read


def fail(path, sensor):
    raise ValueError("what?")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda path, sensor: events([1, 127], [5, 5]), "events"),
        (lambda path, sensor: events([1, 128], [5, 6]), "outside"),
        (lambda path, sensor: events([1, 2], [6, 5]), "outside"),
        (lambda path, sensor: events([], []), "outside"),
        (lambda path, sensor: events([1, 2], [-(2**62), 2**62]), "outside"),
        (refuse("no"), "refused"),
        (refuse(""), "undocumented"),
        (fail, "undocumented"),
        (too_much, "memory"),
    ],
)
def test_what_counts_as_what(tmp_path, monkeypatch, read, outcome):
    path = Path(tmp_path / "a.aedat")
    path.write_bytes(b"x")
    monkeypatch.setattr(readers, "read", read)
    assert fuzz.judge(path, (128, 128))["outcome"] == outcome


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "outcome"), [("os.abort()", "crash"), ("time.sleep(99)", "hang")])
def test_a_library_that_crashes_or_hangs_is_counted(tmp_path, monkeypatch, harm, outcome):
    """With a reader that does so for some files; the others are still read."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "from lsgcli.data import readers\n"
        "whole = readers.read\n"
        "def read(path, sensor=None):\n"
        f"    {harm} if path.name.startswith('3-') else None\n"
        "    return whole(path, sensor)\n"
        "readers.read = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    result = fuzz.fuzz("aedat2", 12, seed=1, limit=3)
    assert [(failure["number"], failure["outcome"]) for failure in result["failures"]] == [(3, outcome)]
    assert sum(result[name] for name in fuzz.OUTCOMES) == 12
