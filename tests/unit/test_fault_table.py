"""A few cases of quick rows of the fault table, all of which `python -m benchmarks.stress --quick` runs."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault table is for Linux")

# Checkpoints: flipped bits, cut, hostile headers, pickles, other formats. Recordings, images, the mode of files, HDF5 files, images of
# other formats.
CASES = {8: 30, 9: 20, 10: 100, 11: 1, 13: 1, 22: 180, 23: 5, 29: 1, 49: 4, 50: 10}


@pytest.mark.parametrize("number", CASES)
@pytest.mark.filterwarnings("ignore")  # of libraries, about damaged files
def test_a_row_holds(number):
    from benchmarks.stress.rows import measure, table

    assert measure(table()[number], CASES[number])["problems"] == []
