"""A short run of damaged recordings; the long one is row 22 of the fault table."""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lsgcli.data.events import Events
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError
from tests.stress import fuzz, seeds

pytestmark = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells the peak of memory")


@pytest.mark.parametrize("name", seeds.FORMATS)
def test_damaged_recordings(name):
    outcomes = Counter(report.outcome for report in fuzz.fuzz(name, 100, seed=1))
    assert outcomes.keys() == {"events", "refused"}
    assert outcomes["refused"] == 100 - outcomes["events"] > 50


def test_damaged_aedat4_of_a_camera(shared):
    reports = list(fuzz.fuzz("aedat4", 100, seed=2, data=shared("dvs128-objects-dev") / "aedat4"))
    assert {report.outcome for report in reports} <= set(fuzz.GOOD)
    assert len(reports) == 100


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
    assert fuzz.judge(path, (128, 128)).outcome == outcome


@pytest.mark.parametrize(("harm", "outcome"), [(os.abort, "crash"), (lambda: time.sleep(99), "hang")])
def test_a_library_that_crashes_or_hangs_is_counted(monkeypatch, harm, outcome):
    """With a reader that does so for some files; the others are still read."""
    whole = readers.read
    monkeypatch.setattr(readers, "read", lambda path, sensor=None: harm() if path.name[:2] == "3-" else whole(path, sensor))
    reports = list(fuzz.fuzz("aedat2", 12, seed=1, limit=3))
    assert [report.number for report in reports] == list(range(12))
    assert [report.number for report in reports if report.outcome not in fuzz.GOOD] == [3]
    assert reports[3].outcome == outcome
