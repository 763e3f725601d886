"""Small files that claim or unpack to a lot: each is refused by name, or read into events, and takes little memory.

Damage of every kind is row 22 of the fault table, and arrays that unpack to much are row 64.
"""

import io
import os
import struct
import zipfile
import zlib

import pytest

from lsgcli.data.readers.base import read
from lsgcli.errors import DataError
from tests.stress import seeds

ROWS = seeds.rows(0, 50, 100, 100)
HEAD31, HEAD4 = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", seeds.aedat4_header()
HEAD_MAT = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")


def refused(path, content, told):
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def packet(content, stream=0):
    return struct.pack("<iI", stream, len(content)) + content


def lz4_bomb(blocks):
    """Blocks of 16 KiB that each say: these bytes again, 4 MiB long."""
    block = b"\x1f\x00\x01\x00" + b"\xff" * 16440
    return struct.pack("<IBBB", 0x184D2204, 0x40, 0x70, 0) + (struct.pack("<I", len(block)) + block) * blocks + bytes(4)


def zstd_bomb(blocks):
    """Blocks that each say: this byte, 128 KiB times."""
    return struct.pack("<IBB", 0xFD2FB528, 0, 0x58) + (struct.pack("<I", 1 << 1 | 1 << 17 << 3)[:3] + b"\0") * blocks


def npy_header(shape, kind="[('x','<u2'),('y','<u2'),('t','<i8'),('p','?')]"):
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"
    text = text.ljust(118).encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def element(content, kind=15):
    return struct.pack("<II", kind, len(content)) + content


def matrix(name, shape, data, kind=6):
    """A matrix of doubles, or of another class."""
    flags = struct.pack("<IIII", 6, 8, kind, 0)
    sides = struct.pack(f"<II{len(shape)}i", 5, 4 * len(shape), *shape) + bytes(-4 * len(shape) % 8)
    label = struct.pack("<II", 1, len(name)) + name.encode() + bytes(-len(name) % 8)
    return element(flags + sides + label + struct.pack("<II", 9, len(data)) + data, 14)


HUGE = npy_header(f"({10**13},)", "'<i8'") + bytes(80)
VECTORS = struct.pack("<HH", 3 << 12, 4 << 12 | 0xFFF) * 300_000
CLAIMS = [
    (
        "a.aedat",
        HEAD31 + struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 2**31 - 1, 1, 1),
        "found a packet of 2147483647 times 8 bytes",
    ),
    ("a.aedat4", b"#!AER-DAT4.0\r\n" + struct.pack("<I", 2**31), "byte 14: found a header of 2147483648 bytes"),
    ("a.aedat4", seeds.aedat4_header(table=10**9) + seeds.aedat4_packets(ROWS), "found a table at byte 1000000000"),
    ("a.aedat4", seeds.aedat4_header(compression=1) + packet(lz4_bomb(20)), "which require"),
    ("a.aedat4", seeds.aedat4_header(compression=3) + packet(zstd_bomb(9000)), "which require"),
    ("a.aedat4", HEAD4 + seeds.aedat4_packets([(1, 2, 3, True), (-1, 5, 4, True)]), "event 1: found x=65535, y=5"),
    ("a.aedat4", seeds.aedat4_header(text=b"<a>" * 50_000), "nests deeper than 64"),
    ("a.dat", b"% Height 0\n% Width 70000000000000\n\0\x08" + bytes(8), "found a sensor of 700000000x0"),
    ("a.raw", b"% evt 3.0\n" + struct.pack("<4H", 8 << 12, 3 << 12 | 2040, 4 << 12 | 0xFFF, 0), "found an event at x=2048"),
    ("a.raw", b"% evt 3.0\n" + struct.pack("<HHH", 8 << 12, 6 << 12, 3 << 12) + VECTORS, "which require"),
    ("a.npz", npy_header(f"({10**15},)") + bytes(26), "expected 13000000000000129 of shape (1000000000000000,)"),
    ("a.npz", npy_header("-" * 9000 + "1"), "a header that cannot be parsed"),
    ("a.npz", npz(x=HUGE, y=HUGE, t=HUGE, p=HUGE), "x.npy: found 209 bytes, expected 80000000000129"),
    ("a.mat", HEAD_MAT + matrix("spiketrain", (101, 2**20), bytes(80)), "cannot reshape array of size 10"),
    ("a.mat", HEAD_MAT + matrix("spiketrain", (2**15, 2**15), bytes(80), kind=1), "found arrays none"),  # cells
]


@pytest.mark.parametrize(("name", "content", "told"), CLAIMS, ids=[f"{name}: {told}" for name, _, told in CLAIMS])
def test_claims(tmp_path, name, content, told, capfd):
    refused(tmp_path / name, content, told)


def test_a_regular_recording_that_is_compressed_far(tmp_path):
    """A thousand times smaller than what it unpacks to, but no more than it states."""
    count, path = 2_000_000, tmp_path / "a.mat"
    packed = (element(zlib.compress(matrix(name, (count, 1), bytes(8 * count)))) for name in "xytp")
    path.write_bytes(HEAD_MAT + b"".join(packed))
    assert path.stat().st_size < 100_000
    assert len(read(path)) == count


def test_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.aedat")
    for name, told in (
        (".", "folder"),
        ("none.aedat", "No such file"),
        ("pipe.aedat", "found a FIFO, expected a regular file"),
    ):
        with pytest.raises(DataError, match=f"cannot be read: .*{told}"):
            read(tmp_path / name)
