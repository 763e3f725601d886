"""Small recordings in every format, written by hand: what the fuzzer damages, and what the tests of readers read.

Each writer takes events as rows (x, y, t, on) and returns the bytes of a file. None of them uses code of the readers.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

Rows = list[tuple[int, int, int, bool]]


def rows(seed: int, count: int, width: int, height: int, start: int = 1000, end: int = 300_000) -> Rows:
    """Made-up events in order of time."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, count).tolist(), rng.integers(0, height, count).tolist()
    t, on = np.sort(rng.integers(start, end, count)).tolist(), rng.integers(0, 2, count).astype(bool).tolist()
    return list(zip(x, y, t, on, strict=True))


def aedat2(events: Rows) -> bytes:
    """AEDAT 2.0 of a DVS128; times are taken modulo 2^32."""
    head = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# created by a test\r\n"
    return head + b"".join(struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (not on), t % 2**32) for x, y, t, on in events)


def aedat4(events: Rows, width: int = 128, height: int = 128, packet: int = 200) -> bytes:
    """AEDAT 4 without compression."""
    return aedat4_header(width, height) + aedat4_packets(events, packet)


def aedat4_header(
    width: int = 128, height: int = 128, compression: int = 0, table: int = -1, text: bytes | None = None
) -> bytes:
    """What an AEDAT 4 begins with; ``text`` in place of its description."""
    usual = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/"><node name="0" path="/0/">'
        '<attr key="compression" type="string">NONE</attr><attr key="typeIdentifier" type="string">EVTS</attr>'
        f'<node name="info" path="/0/info/"><attr key="sizeX" type="int">{width}</attr>'
        f'<attr key="sizeY" type="int">{height}</attr></node></node></node></dv>'
    ).encode()
    text = usual if text is None else text
    # Flatbuffer: root offset, identifier, vtable (3 fields), table (soffset, compression, text, table position), text.
    vtable = struct.pack("<HHHHH", 10, 20, 4, 12, 8) + b"\0\0"
    fields = struct.pack("<iiIq", len(vtable), compression, 12, table)
    header = struct.pack("<I4s", 8 + len(vtable), b"IOHE") + vtable + fields + struct.pack("<I", len(text)) + text + b"\0"
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header


def aedat4_packets(events: Rows, packet: int = 200) -> bytes:
    parts = []
    for i in range(0, len(events), packet):
        part = events[i : i + packet]
        body = b"".join(struct.pack("<qhhB3x", t, x, y, on) for x, y, t, on in part)
        # Size, root offset, identifier, vtable (1 field), padding, table (soffset, vector), count, structures of 16 bytes.
        vtable = struct.pack("<HHH", 6, 8, 4) + b"\0\0"
        buffer = struct.pack("<I4s", 16, b"EVTS") + vtable + struct.pack("<iI", 8, 8) + bytes(4)
        buffer += struct.pack("<I", len(part)) + body
        parts.append(struct.pack("<iiI", 0, 4 + len(buffer), len(buffer)) + buffer)
    return b"".join(parts)


def nmnist(events: Rows) -> bytes:
    return b"".join(bytes([x, y]) + (on << 23 | t).to_bytes(3, "big") for x, y, t, on in events)


def dat(events: Rows, lines: bytes = b"% Height 240\n% Width 304\n") -> bytes:
    """Prophesee .dat; times are taken modulo 2^32."""
    head = b"% Data file containing Event2D events.\n% Version 2\n" + lines + b"\x00\x08"
    return head + b"".join(struct.pack("<II", t % 2**32, on << 28 | y << 14 | x) for x, y, t, on in events)


def evt2(events: Rows, lines: bytes = b"% geometry 640x480\n") -> bytes:
    """Prophesee EVT 2.0, with a trigger among the events."""
    parts, high = [b"% evt 2.0\n" + lines], None
    for x, y, t, on in events:
        if t >> 6 != high:
            high = t >> 6
            parts.append(struct.pack("<II", 8 << 28 | high & 0xFFFFFFF, 10 << 28 | 1))
        parts.append(struct.pack("<I", on << 28 | (t & 63) << 22 | x << 11 | y))
    return b"".join(parts)


def evt3(events: Rows, lines: bytes = b"% format EVT3;height=720;width=1280\n") -> bytes:
    """Prophesee EVT 3.0, without vectors; with a trigger among the events."""
    words, high, low, row = [], None, None, None
    for x, y, t, on in events:
        if t >> 12 != high:
            high, low = t >> 12, None
            words += [8 << 12 | high & 0xFFF, 12 << 12 | 1]
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(row)
        words.append(2 << 12 | on << 11 | x)
    return b"% evt 3.0\n" + lines + struct.pack(f"<{len(words)}H", *words)


def evt3_vectors(seed: int, count: int) -> bytes:
    """EVT 3.0 of random vectors on a sensor of 1280x720."""
    rng = np.random.default_rng(seed)
    words = np.empty((count, 6), "<u2")
    words[:, 0] = 6 << 12 | np.arange(count) * 4000 // count
    words[:, 1] = rng.integers(720, size=count)
    words[:, 2] = 3 << 12 | rng.integers(2, size=count) << 11 | rng.integers(1200, size=count)
    # A quarter of the pixels of each vector.
    for column, kind, masks in ((3, 4, 4096), (4, 4, 4096), (5, 5, 256)):
        words[:, column] = kind << 12 | rng.integers(masks, size=count) & rng.integers(masks, size=count)
    return b"% evt 3.0\n% geometry 1280x720\n" + struct.pack("<H", 8 << 12 | 5) + words.tobytes()


def npy(events: Rows) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(events, dtype=[("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")]))
    return stream.getvalue()


def npz(events: Rows) -> bytes:
    stream = io.BytesIO()
    x, y, t, on = (np.array(column) for column in zip(*events, strict=True))
    np.savez_compressed(stream, x=x.astype(np.uint16), y=y, t=t, p=on, sensor=(128, 128))
    return stream.getvalue()


Seeds = list[tuple[str, bytes]]  # file name, content


def _aedat4(data: Path | None) -> Seeds:
    found = sorted(data.rglob("*.aedat4"), key=lambda path: (path.stat().st_size, path.name)) if data else []
    own = [("own.aedat4", aedat4(rows(1, 1200, 128, 128)))]
    return own + [(path.name, path.read_bytes()) for path in found if path.stat().st_size < 200_000][:4]


# Format -> a recording of some megabytes, of which the limit of memory is not all base.
LARGE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "aedat2": lambda: ("large.aedat", aedat2(rows(9, 300_000, 128, 128))),
    "aedat4": lambda: ("large.aedat4", aedat4(rows(9, 200_000, 128, 128), packet=5000)),
    "nmnist-bin": lambda: ("large.bin", nmnist(rows(9, 500_000, 34, 34))),
    "prophesee-dat": lambda: ("large.dat", dat(rows(9, 300_000, 304, 240))),
    "prophesee-evt2": lambda: ("large.raw", evt2(rows(9, 500_000, 640, 480))),
    "prophesee-evt3": lambda: ("large.raw", evt3_vectors(9, 150_000)),
    "npy": lambda: ("large.npy", npy(rows(9, 250_000, 128, 128))),
}
# Format -> (sensor, recordings to damage, given a folder of real ones or None).
FORMATS: dict[str, tuple[tuple[int, int], Callable[[Path | None], Seeds]]] = {
    "aedat2": ((128, 128), lambda _: [("a.aedat", aedat2(rows(0, 1500, 128, 128))), ("wraps.aedat", aedat2(rows(1, 300, 128, 128, 2**32 - 9000, 2**32 + 9000)))]),
    "aedat4": ((128, 128), _aedat4),
    "nmnist-bin": ((34, 34), lambda _: [("a.bin", nmnist(rows(0, 2000, 34, 34))), ("late.bin", nmnist([(x, 240 if i % 40 == 9 else y, t, on) for i, (x, y, t, on) in enumerate(rows(1, 400, 34, 34))]))]),
    "prophesee-dat": ((304, 240), lambda _: [("a.dat", dat(rows(0, 1500, 304, 240))), ("b.dat", dat(rows(1, 100, 304, 240), b""))]),
    "prophesee-evt2": ((640, 480), lambda _: [("a.raw", evt2(rows(0, 1500, 640, 480))), ("b.raw", evt2(rows(1, 100, 640, 480), b""))]),
    "prophesee-evt3": ((1280, 720), lambda _: [("a.raw", evt3(rows(0, 800, 1280, 720))), ("vectors.raw", evt3_vectors(1, 300))]),
    "npy": ((128, 128), lambda _: [("a.npy", npy(rows(0, 1000, 128, 128))), ("a.npz", npz(rows(1, 1000, 128, 128)))]),
}  # fmt: skip
