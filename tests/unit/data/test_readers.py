from unittest.mock import Mock

import numpy as np
import pytest

from lsgcli.data import frames, summary
from lsgcli.data.datasets.base import dataset_of
from lsgcli.data.events import Events
from lsgcli.data.readers import base as readers
from lsgcli.data.readers.base import read, suffixes
from lsgcli.errors import ConfigError, DataError
from tests.unit.data.conftest import listed, write

HEADER = b"#!AER-DAT2.0\r\n# text\r\n"


def test_aedat2_bits_by_hand(tmp_path):
    # address = row 3 from below << 8 | column 2 mirrored << 1 | polarity
    content = HEADER + bytes.fromhex("00000304 0000000a" + "00007f01 0000000b" + "000000fe 00000010")
    events = read(write(tmp_path / "a.aedat", content))
    assert listed(events) == [(125, 124, 10, True), (127, 0, 11, False), (0, 127, 16, True)]
    assert events.sensor == (128, 128)
    assert (events.x.dtype, events.t.dtype, events.on.dtype) == (np.uint16, np.int64, np.bool_)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "byte 0"),
        (HEADER, f"byte {len(HEADER)}"),
        (HEADER + bytes(21), f"byte {len(HEADER) + 16}"),
        (HEADER + bytes(8) + b"\x00\x00\x80\x00" + bytes(4), f"byte {len(HEADER) + 8}: found address 0x00008000"),
        (b"GIF89a" * 9, "byte 0: found b'GIF89aGIF89aGIF8', expected the start of aedat2"),
    ],
    ids=["empty", "no events", "cut off", "address too large", "no header"],
)
def test_aedat2_damage_names_file_and_byte(tmp_path, content, told):
    path = write(tmp_path / "bad.aedat", content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_numpy_files(tmp_path, form):
    kind = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "i1")])
    table = np.array([(1, 2, 30, 1), (3, 4, 20, -1), (5, 6, 40, 0)], dtype=kind)
    path = tmp_path / f"a.{form}"
    if form == "npy":
        np.save(path, table)
    else:
        np.savez(path, **{name: table[name] for name in "xytp"}, sensor=(20, 10))
    events = read(path)
    assert listed(events) == [(3, 4, 20, False), (1, 2, 30, True), (5, 6, 40, False)]
    assert events.sensor == (None if form == "npy" else (20, 10))


def test_unknown_format_lists_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"\.aedat4"):
        read(write(tmp_path / "a.txt", b"hello"))
    assert {".aedat", ".aedat4", ".bin", ".npy", ".npz"} <= set(suffixes())


# ---- the boundary, with readers that are wrong in every way ----


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Read a file by a parser that returns, or raises, what is given."""

    def get(outcome, sensor=None):
        def parse(path):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        made = readers.reader(".mine", extra="mine")(parse)
        monkeypatch.setattr(readers, "_readers", lambda: {"mine": made})
        return read(write(tmp_path / "a.mine", b"content"), sensor)

    return get


def events(x=(1, 2), y=(3, 4), t=(5, 6), on=(True, False), sensor=None):
    return Events(*map(np.asarray, (x, y, t, on)), sensor)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "g", ">u8", "i1"])
def test_whole_numbers_of_any_type(parsed, kind):
    made = events(*(np.array(values, kind) for values in ([1, 2], [3, 4], [5, 6], [1, 0])))
    assert listed(parsed(made)) == [(1, 3, 5, True), (2, 4, 6, False)]


def test_events_of_a_parser_are_ordered_and_converted(parsed):
    found = parsed(events(x=np.array([7, 8, 9], ">i4"), y=[1.0, 2.0, 3.0], t=[5, 4, 5], on=[-1, 1, 0], sensor=(10, 4)))
    assert listed(found) == [(8, 2, 4, True), (7, 1, 5, False), (9, 3, 5, False)]
    assert (found.x.dtype, found.y.dtype, found.t.dtype, found.on.dtype) == (np.uint16, np.uint16, np.int64, np.bool_)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (events(sensor=(3, 4)), "event 1: found x=2, y=4, expected x below 3 and y below 4 of the sensor"),
        (events(x=[1, -1]), "event 1: found x = -1, expected an integer from 0 to 65535"),
        (events(y=[1, 1 << 16]), "event 1: found y = 65536"),
        (events(t=[1, -(2**63)]), "event 1: found t = -9223372036854775808"),
        (events(t=[1, 2.5]), "event 1: found t = 2.5"),
        (events(on=[0, 2]), "event 1: found p = 2, expected an integer from -1 to 1"),
        (events(x=["a", "b"]), "found x of type <U1 and shape (2,), expected integers"),
        (events(x=[[1], [2]]), "found x of type int64 and shape (2, 1), expected integers"),
        (events(x=[1]), "found 1 x, 2 y, 2 t, 2 p, expected equal numbers"),
        (events([], [], [], []), "found no event, expected at least one"),
        (ValueError("what?"), "expected a recording of format mine, found: what?"),
        (AssertionError(), "found: AssertionError"),
        (RecursionError("deep"), "found: deep"),
        (OSError(22, "Invalid argument"), "Invalid argument"),
        (readers.damaged("byte 8", "a", "b"), "byte 8: found a, expected b"),
    ],
)
def test_what_a_parser_does_wrong_is_a_data_error(parsed, outcome, said):
    with pytest.raises(DataError) as caught:
        parsed(outcome)
    assert "a.mine" in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_events_and_sensor_of_a_file_fit_to_the_given_sensor(parsed):
    assert len(parsed(events(sensor=(3, 9)), (3, 9))) == 2
    for made, sensor, told in (
        (events(), (2, 5), "event 1: found x=2, y=4, expected x below 2 and y below 5 of the sensor"),
        (events(), (3, 4), "event 1: found x=2, y=4, expected x below 3 and y below 4 of the sensor"),
        (events(sensor=(3, 9)), (346, 260), "found a sensor of 3x9, expected 346x260"),
    ):
        with pytest.raises(DataError, match=rf"a\.mine: {told}"):
            parsed(made, sensor)


def test_a_library_that_is_not_there(parsed):
    with pytest.raises(ConfigError, match=r"a\.mine: the library that reads it cannot be imported: no aedat") as caught:
        parsed(ImportError("no aedat"))
    assert "[mine]" in caught.value.message


def test_want_of_memory_is_not_the_file_s_fault(parsed):
    with pytest.raises(MemoryError):
        parsed(MemoryError())


def test_a_recording_is_recognised_and_checked_once(config, recordings, monkeypatch):
    """Whether its frames are made or it is described."""
    dataset = dataset_of(config("event-folder", data_dir=str(recordings))).scan()
    recognised = Mock(wraps=readers.identify)
    checked = Mock(wraps=readers.check_inside)
    monkeypatch.setattr(readers, "identify", recognised)
    for module in (readers, frames):
        monkeypatch.setattr(module, "check_inside", checked)
    dataset.load(dataset.samples[0])
    assert (recognised.call_count, checked.call_count) == (1, 1)
    assert summary.of_dataset(dataset, workers=0)["formats"] == {"aedat2": len(dataset.samples)}
    assert recognised.call_count == checked.call_count == 1 + len(dataset.samples)


def test_events_of_a_larger_sensor_than_the_frames(config, recordings):
    """They are checked against the sensor of the frames, whatever their own is, before they are turned."""
    dataset = dataset_of(config("event-folder", data_dir=str(recordings), orientation="rotated-90")).scan()
    events = dataset.events(dataset.samples[0])
    assert events.sensor == (128, 128)
    dataset.info["sensor"] = [40, 40]
    with pytest.raises(DataError, match="expected x below 40 and y below 40"):
        dataset.frames(events, dataset.samples[0])
