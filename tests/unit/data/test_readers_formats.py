"""Formats, each against files that were written by hand, or by another library."""

import struct

import numpy as np
import pytest

from benchmarks.stress import seeds
from lsgcli.data.readers.base import identify, read
from lsgcli.errors import DataError
from tests.unit.data import peers
from tests.unit.data.conftest import listed, write

# Reader, file name, writer, sensor that the events are on, sensor that the file states.
WRITERS = [
    ("aedat2", "a.aedat", seeds.aedat2, (128, 128), (128, 128)),
    ("aedat4", "a.aedat4", seeds.aedat4, (128, 128), (128, 128)),
    ("nmnist-bin", "a.bin", seeds.nmnist, (240, 180), None),
    ("prophesee-dat", "a.dat", seeds.dat, (304, 240), (304, 240)),
    ("prophesee-dat", "a.dat", lambda events: seeds.dat(events, b""), (60, 50), None),
    ("prophesee-evt2", "a.raw", seeds.evt2, (640, 480), (640, 480)),
    ("prophesee-evt2", "a.raw", lambda events: seeds.evt2(events, b""), (60, 50), None),
    ("prophesee-evt3", "a.raw", seeds.evt3, (1280, 720), (1280, 720)),
    ("prophesee-evt3", "a.raw", lambda events: seeds.evt3(events, b""), (60, 50), None),
    ("npy", "a.npy", seeds.npy, (128, 128), None),
]


@pytest.mark.parametrize(("name", "file", "writer", "sensor", "stated"), WRITERS)
def test_what_was_written_is_read(tmp_path, name, file, writer, sensor, stated):
    events = seeds.rows(5, 700, *sensor)
    path = write(tmp_path / file, writer(events))
    found = read(path)
    assert identify(path) == name
    assert listed(found) == events
    assert found.sensor == stated
    assert (found.x.dtype, found.y.dtype, found.t.dtype, found.on.dtype) == (np.uint16, np.uint16, np.int64, np.bool_)


def test_a_stated_sensor_is_always_checked(tmp_path):
    events = [(120, 7, 100, True)]
    for name, content in {
        "a.dat": seeds.dat(events, b"% Width 120\n% Height 99\n"),
        "b.raw": seeds.evt2(events, b"% geometry 120x99\n"),
        "c.raw": seeds.evt3(events, b"% format EVT3;height=99;width=120\n"),
        "d.aedat4": seeds.aedat4(events, 120, 99),
    }.items():
        with pytest.raises(DataError, match=r"x=120, y=7, expected x below 120 and y below 99"):
            read(write(tmp_path / name, content))


def test_readers_are_found_by_content_where_suffixes_collide(tmp_path):
    events = seeds.rows(1, 20, 30, 30)
    for content, name in (
        (seeds.aedat2(events), "aedat2"),
        (seeds.aedat4(events), "aedat4"),
        (seeds.evt2(events), "prophesee-evt2"),
        (seeds.evt3(events), "prophesee-evt3"),
        (seeds.evt3(events, b"% end\n").replace(b"% evt 3.0", b"% format EVT3"), "prophesee-evt3"),
        (seeds.dat(events), "prophesee-dat"),
        (seeds.npy(events), "npy"),
    ):
        assert identify(write(tmp_path / "a.aedat", content)) == name
    assert identify(write(tmp_path / "a.bin", seeds.nmnist(events))) == "nmnist-bin"


# ---- AEDAT 2.0 ----


def test_aedat2_agrees_with_other_libraries(tmp_path):
    path = write(tmp_path / "a.aedat", seeds.aedat2(seeds.rows(2, 3000, 128, 128)))
    events = read(path)
    expected = (events.x.astype(int), events.y.astype(int), events.t, events.on.astype(int))
    low, high, t, on = peers.tonic(path)
    for found, wanted in zip((127 - low, 127 - high, t, on), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    column, row, t, on = peers.spikingjelly(path)
    for found, wanted in zip((row, column, t, on), expected, strict=True):  # for it, the recording lies on its side
        np.testing.assert_array_equal(found, wanted)


# ---- Prophesee ----


@pytest.mark.parametrize(("name", "lap"), [("aedat2", 2**32), ("dat", 2**32), ("evt2", 2**34)])
def test_times_wrap_and_go_back(tmp_path, name, lap):
    times = [lap - 70, lap + 65, lap - 6, lap + 130]  # the third is late
    events = [(i, 0, t, True) for i, t in enumerate(times)]
    found = read(write(tmp_path / "a.aedat", getattr(seeds, name)(events)))
    assert found.t.tolist() == sorted(times)
    assert found.x.tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("make", "events"),
    [
        (
            lambda events: seeds.evt2(events, b"% geometry 640x480\n% end\n"),
            [(1, 0x25, 64 * 0x25, True), (3, 4, 64 * 0x25, False)],
        ),
        (seeds.evt3, [(1, 9, 0x25 << 12, True), (3, 4, (0x25 << 12) + 7, False)]),  # without an end of the header
    ],
)
def test_words_that_look_like_text(tmp_path, make, events):
    """The first data byte is a %: as a row, or as the lower bits of the time."""
    assert listed(read(write(tmp_path / "a.raw", make(events)))) == events


def test_evt_events_before_the_first_time_are_left_out(tmp_path):
    two = struct.pack("<III", 1 << 28 | 5 << 11 | 6, 8 << 28 | 9, 1 << 28 | 7 << 11 | 8)
    assert listed(read(write(tmp_path / "2.raw", b"% evt 2.0\n" + two))) == [(7, 8, 9 << 6, True)]
    three = struct.pack("<8H", 6, 2 << 12 | 5, 6 << 12 | 3, 2 << 12 | 5, 8 << 12 | 9, 2 << 12 | 7, 6 << 12 | 1, 2 << 12 | 8)
    events = read(write(tmp_path / "3.raw", b"% evt 3.0\n" + three))
    assert listed(events) == [(7, 6, 9 << 12, False), (8, 6, (9 << 12) + 1, False)]


def test_evt3_times_are_not_counted_twice(tmp_path):
    words = [8 << 12 | 5, 6 << 12 | 4095, 2 << 12 | 1, 8 << 12 | 6, 6 << 12 | 2, 2 << 12 | 2, 6 << 12 | 1, 2 << 12 | 3]
    events = read(write(tmp_path / "a.raw", b"% evt 3.0\n" + struct.pack("<8H", *words)))
    assert events.t.tolist() == [5 * 4096 + 4095, 6 * 4096 + 1, 6 * 4096 + 2]
    assert events.x.tolist() == [1, 3, 2]  # the last came 1 us late


def test_evt3_times_wrap_after_24_bits(tmp_path):
    events = [(1, 2, 2**24 - 5, True), (3, 4, 2**24 + 7, False), (5, 6, 2**25 + 1, True)]
    quiet = struct.pack("<3H", *(8 << 12 | i for i in (1500, 3000, 0)))  # words of time alone go round once more
    last = struct.pack("<3H", 6 << 12 | 1, 6, 2 << 12 | 1 << 11 | 5)
    assert listed(read(write(tmp_path / "a.raw", seeds.evt3(events[:2]) + quiet + last))) == events


def slow_evt3(content):
    """One word after another, as the format is described."""
    found, row, base, polarity, high, low, lap, before = [], 0, 0, False, None, 0, 0, None
    start = content.rindex(b"\n", 0, 60) + 1
    for (word,) in struct.iter_unpack("<H", content[start:]):
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            row = value & 0x7FF
        elif kind == 3:
            base, polarity = value & 0x7FF, bool(value >> 11)
        elif kind in (6, 8):
            if kind == 8 and value != high:
                high, low = value, 0
            elif kind == 6:
                low = value
            if high is not None:
                time = high << 12 | low
                lap += 0 if before is None or abs(time - before) <= 2**23 else (1 if time < before else -1)
                before = time
        elif kind in (2, 4, 5):
            time = None if high is None else lap * 2**24 + (high << 12 | low)
            if kind == 2:
                found.append((value & 0x7FF, row, time, bool(value >> 11)))
            else:
                width = 12 if kind == 4 else 8
                found += [(base + i, row, time, polarity) for i in range(width) if value >> i & 1]
                base += width
    return sorted((event for event in found if event[2] is not None), key=lambda event: event[2])


def test_evt3_agrees_with_a_slow_decoder(tmp_path):
    rng = np.random.default_rng(8)
    kinds = rng.choice([0, 2, 3, 4, 5, 6, 6, 8, 10, 15], 30_000)
    words = kinds << 12 | rng.integers(0, 4096, 30_000)
    words[kinds == 3] &= 0xF8FF  # so that vectors stay inside 2048 columns
    vectors = np.flatnonzero((kinds == 4) | (kinds == 5))
    # No more than some vectors in a row without a new base.
    words[vectors[::3]] = 3 << 12 | rng.integers(0, 1800, len(vectors[::3]))
    words[kinds == 8] = 8 << 12 | (np.arange((kinds == 8).sum()) * 7 + rng.integers(0, 2, (kinds == 8).sum())) % 4096
    content = b"% evt 3.0\n" + words.astype("<u2").tobytes()
    assert listed(read(write(tmp_path / "a.raw", content))) == slow_evt3(content)


@pytest.mark.parametrize("name", ["dat", "evt2", "evt3"])
def test_prophesee_readers_agree_with_expelliarmus(tmp_path, name):
    Wizard = pytest.importorskip("expelliarmus").Wizard
    file = tmp_path / ("a.dat" if name == "dat" else "a.raw")
    events = seeds.rows(2, 3000, 300, 200, 0, 4000)  # within 4096 us: its times of EVT3 are right only there
    write(file, getattr(seeds, name)(events))
    theirs = Wizard(encoding=name).read(file)
    assert listed(read(file)) == list(zip(*(theirs[key].tolist() for key in "xytp"), strict=True))


# ---- N-MNIST and N-Caltech101 ----


def test_bin_with_overflows(tmp_path):
    """Against one event after the other."""
    overflows = {*range(3, 900, 7), *range(100, 140)}
    events = [(x, 240 if i in overflows else y, t, on) for i, (x, y, t, on) in enumerate(seeds.rows(4, 900, 240, 180))]
    expected, late = [], 0
    for x, y, t, on in events:
        if y == 240:
            late += 8192
        else:
            expected.append((x, y, t + late, on))
    assert listed(read(write(tmp_path / "a.bin", seeds.nmnist(events)))) == expected


def test_bin_agrees_with_tonic(tmp_path):
    from tonic.io import read_mnist_file

    path = write(tmp_path / "a.bin", seeds.nmnist(seeds.rows(4, 900, 240, 180)))
    theirs = read_mnist_file(str(path), dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", bool)]))
    assert listed(read(path)) == list(zip(*(theirs[name].tolist() for name in "xytp"), strict=True))


@pytest.mark.parametrize(
    "content",
    [
        b"Dear reader, this is no recording of a camera, it is a letter.",
        "Größe für Kühe, äöü".encode(),
        np.random.default_rng(0).bytes(500),
    ],
)
def test_bin_that_is_no_recording(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.bin: .*(found text|earlier than the previous one)"):
        read(write(tmp_path / "a.bin", content[: len(content) // 5 * 5]))
