"""Parts of prepared data."""

from lsgcli.data.bundle import spread
from tests.tiny import split


def test_spread_reaches_over_the_whole_part():
    """So that samples in the order of their classes give all classes; none twice, and no more than there are."""
    whole = split(30, "test")
    for n, rows in ((1, [0]), (3, [0, 10, 20]), (4, [0, 7, 15, 22]), (30, range(30)), (99, range(30))):
        assert spread(whole, n).keys == [whole.keys[row] for row in rows]
    assert spread(whole, 0).keys == []
    for n, first, rows in ((1, 29, [29]), (3, 25, [25, 5, 15]), (99, 2, [*range(2, 30), 0, 1])):
        assert spread(whole, n, first).keys == [whole.keys[row] for row in rows]
