"""The frame of the fault table, whose rows `python -m tests.stress --quick` runs; and a short run of row 22."""

import os
from collections import Counter

import pytest

from tests.stress import fuzz, seeds
from tests.stress.rows import Case, Row, measure


def test_a_row_that_raises_or_does_nothing_is_a_failure():
    def raises(count, chance, folder):
        yield Case("first")
        raise RuntimeError("broken row")

    for body, cases in ((raises, 1), (lambda count, chance, folder: iter(()), 0)):
        record = measure(Row(99, "", "", "", "", 1, 1, body), 1)
        assert (record["cases"], record["failures"]) == (cases, 1)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux tells the peak of memory")
def test_damaged_recordings():
    for name in seeds.FORMATS:
        outcomes = Counter(report.outcome for report in fuzz.fuzz(name, 60, seed=1))
        assert outcomes.keys() == {"events", "refused"}, (name, outcomes)
        assert outcomes["refused"] == 60 - outcomes["events"] > 30, name
