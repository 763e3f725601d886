import struct

import numpy as np
import pytest

from lsgcli.data.readers import read, suffixes
from lsgcli.errors import DataError

HEADER = b"#!AER-DAT2.0\r\n# text\r\n"


def write(path, content):
    path.write_bytes(content)
    return path


def listed(events):
    return list(zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.on.tolist(), strict=True))


def test_aedat2_bits_by_hand(tmp_path):
    # address = row 3 from below << 8 | column 2 mirrored << 1 | polarity
    content = HEADER + bytes.fromhex("00000304 0000000a" + "00007f01 0000000b" + "000000fe 00000010")
    events = read(write(tmp_path / "a.aedat", content))
    assert listed(events) == [(125, 124, 10, True), (127, 0, 11, False), (0, 127, 16, True)]
    assert events.sensor == (128, 128)
    assert (events.x.dtype, events.t.dtype, events.on.dtype) == (np.uint16, np.int64, np.bool_)


def test_aedat2_times_wrap_and_go_back(tmp_path):
    times = [2**32 - 20, 5, 2**32 - 3, 30]  # the third is late by 8 us
    content = HEADER + b"".join(struct.pack(">II", 2 * i, t) for i, t in enumerate(times))
    events = read(write(tmp_path / "a.aedat", content))
    assert events.t.tolist() == [2**32 - 20, 2**32 - 3, 2**32 + 5, 2**32 + 30]
    assert events.x.tolist() == [127, 125, 126, 124]


def test_events_of_one_microsecond_keep_their_order(tmp_path):
    content = HEADER + b"".join(struct.pack(">II", 2 * i, t) for i, t in enumerate([9, 4, 4, 4, 1]))
    assert read(write(tmp_path / "a.aedat", content)).x.tolist() == [123, 126, 125, 124, 127]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "byte 0"),
        (HEADER, f"byte {len(HEADER)}"),
        (HEADER + bytes(21), f"byte {len(HEADER) + 16}"),
        (b"#!AER-DAT2.0\r\n# no end", "byte 14"),
        (HEADER + bytes(8) + b"\x00\x01\x00\x00" + bytes(4), f"byte {len(HEADER) + 8}"),
        (HEADER + bytes(8) + b"\x00\x00\x80\x00" + bytes(4), f"byte {len(HEADER) + 8}: found address 0x00008000"),
        (b"GIF89a" * 9, "#!AER-DAT2.0"),
    ],
    ids=["empty", "no events", "cut off", "header without end", "address too large", "bit 15", "no header"],
)
def test_aedat2_damage_names_file_and_byte(tmp_path, content, told):
    path = write(tmp_path / "bad.aedat", content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def test_nmnist_bits_by_hand(tmp_path):
    content = bytes([3, 4, 0x80, 0, 10]) + bytes([33, 0, 0x01, 2, 3])
    events = read(write(tmp_path / "00001.bin", content))
    assert listed(events) == [(3, 4, 10, True), (33, 0, 0x010203, False)]
    assert events.sensor is None


def test_nmnist_cut_off(tmp_path):
    with pytest.raises(DataError, match=r"b\.bin: byte 5: found 2 bytes"):
        read(write(tmp_path / "b.bin", bytes(7)))


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


@pytest.mark.parametrize(
    "change",
    [
        {"x": [-1, 2]},
        {"x": [70000, 2]},
        {"x": [0.5, 2]},
        {"x": [1, 2, 3]},
        {"x": []},
        {"t": np.array([1, 2**63], "u8")},
        {"sensor": 3},
    ],
    ids=str,
)
def test_numpy_values_are_checked(tmp_path, change):
    arrays = {"x": [1, 2], "y": [1, 2], "t": [1, 2], "p": [0, 1], **change}
    np.savez(tmp_path / "a.npz", **{key: np.asarray(value) for key, value in arrays.items()})
    with pytest.raises(DataError, match=r"a\.npz"):
        read(tmp_path / "a.npz")


def test_nothing_pickled_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.aedat4", "a.npz", "a.npy", "a.aedat", "a.bin"])
@pytest.mark.parametrize(
    "content",
    [b"#!AER-DAT4.0\r\n" + b"\xff" * 90, b"PK\x03\x04" + b"\x07" * 90, b"\x93NUMPY\x01\x00\xff\xff{"],
    ids=["aedat4", "zip", "npy"],
)
def test_garbage_is_a_data_error_or_events(tmp_path, name, content, capfd):
    try:
        told, count = name, len(read(write(tmp_path / name, content)))
    except DataError as error:
        told, count = error.message, 1
    assert name in told
    assert count > 0


def test_unknown_format_lists_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"\.aedat4"):
        read(write(tmp_path / "a.txt", b"hello"))
    assert {".aedat", ".aedat4", ".bin", ".npy", ".npz"} <= set(suffixes())


def test_content_goes_before_suffix(tmp_path):
    content = HEADER + struct.pack(">II", 0, 7)
    assert read(write(tmp_path / "a.bin", content)).t.tolist() == [7]
