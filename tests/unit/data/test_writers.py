import struct

import numpy as np
import pytest

from lsgcli.data.events import Events
from lsgcli.data.readers import base as readers
from lsgcli.data.writers import write_aedat2
from tests.unit.data import peers


def made(*rows, sensor=(128, 128)):
    """Events from (x, y, t, on)."""
    x, y, t, on = (np.array(column) for column in zip(*rows, strict=True))
    return Events(x.astype(np.uint16), y.astype(np.uint16), t.astype(np.int64), on.astype(bool), sensor)


def many(count=5000, sensor=(128, 128), latest=2**32, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(np.append(rng.integers(0, latest, count - 1), latest - 1))
    x, y = (rng.integers(0, side, count).astype(np.uint16) for side in sensor)
    return Events(x, y, t, rng.random(count) < 0.5, sensor)


def same(a, b):
    assert a.sensor == b.sensor
    for name in ("x", "y", "t", "on"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_aedat2_bytes(tmp_path):
    """Against bytes put together by hand from the format's description."""
    rows = [(0, 0, 0, True), (127, 1, 5, False), (3, 127, 2**32 - 1 - 2**31, True), (64, 63, 2**32 - 1, False)]
    write_aedat2(tmp_path / "a.aedat", made(*rows), comments=("one more",))
    content = (tmp_path / "a.aedat").read_bytes()
    header, body = content[: -8 * len(rows)], content[-8 * len(rows) :]
    assert body == b"".join(struct.pack(">II", (127 - y) * 256 + (127 - x) * 2 + (0 if on else 1), t) for x, y, t, on in rows)
    lines = header.split(b"\r\n")
    assert lines[0] == b"#!AER-DAT2.0"
    assert lines[-2:] == [b"# one more", b""]
    assert all(line.startswith(b"#") and b"\n" not in line and line.isascii() for line in lines[:-1])


@pytest.mark.parametrize("comment", ["two\nlines", "two\r\nlines\r\n#!AER-DAT4.0", "größer \u2192 \U0001f600", "\udcff name"])
def test_a_comment_stays_one_line(tmp_path, comment):
    events = many(50)
    write_aedat2(tmp_path / "a.aedat", events, comments=(comment, "after"))
    same(readers.read(tmp_path / "a.aedat"), events)
    content = (tmp_path / "a.aedat").read_bytes()
    plain = len(b"".join(line for line in content.split(b"\r\n") if line.startswith(b"#")))
    assert content.index(b"\x00") >= plain


def test_other_libraries_read_the_same_events(tmp_path):
    events = many()
    write_aedat2(tmp_path / "a.aedat", events)
    low, high, t, on = peers.tonic(tmp_path / "a.aedat")
    expected = (events.x.astype(int), events.y.astype(int), events.t, events.on.astype(int))
    for found, wanted in zip((127 - low, 127 - high, t, on), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    column, row, t, on = peers.spikingjelly(tmp_path / "a.aedat")
    for found, wanted in zip((row, column, t, on), expected, strict=True):  # for it, the recording lies on its side
        np.testing.assert_array_equal(found, wanted)


def test_the_longest_pause_reads_back(tmp_path):
    """A pause of exactly half the counter's range is the longest that a reader does not take for a wrap."""
    events = made((1, 2, 7, True), (3, 4, 7 + 2**31, False))
    write_aedat2(tmp_path / "a.aedat", events)
    same(readers.read(tmp_path / "a.aedat"), events)
