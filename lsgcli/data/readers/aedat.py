"""AEDAT 2.0 of a DVS128, the format of the original CIFAR10-DVS, and AEDAT 3.1, that of DVSGesture's own files and of cAER.

Both begin with text lines that start with ``#`` and end in CR LF.

AEDAT 2.0: eight bytes per event, big-endian: u32 address, u32 time in microseconds. Address: bit 0 polarity (0 is ON), bits 1-7 column
(mirrored), bits 8-14 row (from below), the rest 0.

AEDAT 3.1: the last line is ``#!END-HEADER``. Then packets, little-endian: a header of 28 bytes (i16 type, i16 source, i32 bytes of an
event, i32 offset of the time in it, i32 overflows of the times at 2^31, i32 room for events, i32 events, i32 valid events) and
that room. Type 1 is polarity events of 8 bytes: u32 (bit 0 valid, bit 1 polarity with 1 for ON, bits 2-16 row, bits 17-31 column)
and i32 time in microseconds. Packets of other types and invalid events are skipped.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import damaged
from lsgcli.data.readers.base import reader
from lsgcli.data.readers.parsing import records, unwrap, whole
from lsgcli.registry import register

SIDE = 128
LARGEST = 0x7FFF  # address
ADDRESS = np.dtype([("address", ">u4"), ("time", ">u4")])
PACKET = struct.Struct("<hhiiiiii")
POLARITY, EVENT = 1, np.dtype([("data", "<u4"), ("time", "<i4")])
# (width, height) of the cameras that a "#Source" line may name.
CAMERAS = {b"DVS128": (128, 128), b"DAVIS128": (128, 128), b"DAVIS240": (240, 180), b"DAVIS346": (346, 260)}


def _aedat2(chunks: Iterable[bytes]) -> Iterator[Events]:
    last = None
    for at, raw in records(chunks, ADDRESS, _header):
        address = raw["address"].astype(np.uint32)
        bad = int((address > LARGEST).argmax()) if int(address.max()) > LARGEST else None
        address = address[:bad].astype(np.uint16)  # few passes, over small numbers
        x = address >> 1
        x &= 127
        x ^= 127  # 127 - x of seven bits
        y = address >> 8
        y ^= 127
        t = unwrap(raw["time"][:bad].astype(np.int64), 1 << 32, last)
        last = int(t[-1]) if len(t) else last
        yield Events(x, y, t, (address & 1) == 0, (SIDE, SIDE))
        if bad is not None:
            raise damaged(f"byte {at + 8 * bad}", f"address 0x{raw['address'][bad]:08x}", "at most 0x00007fff of a DVS128")


def _header(content: bytes) -> int | None:
    start = sum(len(line) for line in _lines(content))
    return None if content[start : start + 1] in (b"", b"#") else start


@register("reader", "aedat2")
@reader(".aedat", magic=rb"#!AER-DAT2", decode=_aedat2)
def aedat2(path: Path) -> Events:
    """AEDAT 2.0 files of 128x128 sensors."""
    return whole(_aedat2([path.read_bytes()]))


@register("reader", "aedat31")
@reader(".aedat", magic=rb"#!AER-DAT3\.1")
def aedat31(path: Path) -> Events:
    """The polarity events of AEDAT 3.1 files."""
    content = path.read_bytes()
    start, sensor = 0, None
    for line in _lines(content):
        if line.startswith(b"#Format:") and b"RAW" not in line.upper():
            raise damaged(f"byte {start}", f"{line[8:40].strip().decode('latin-1')!r}", "the format RAW, not compressed")
        if sensor is None and (match := re.match(rb"#Source \d+: ([A-Z]+\d+)", line)):
            sensor = CAMERAS.get(match[1])
        start += len(line)
        if line.rstrip() == b"#!END-HEADER":
            return _polarity(content, start, sensor)
    raise damaged(f"byte {start}", "no line #!END-HEADER", "one, and packets after it")


def _lines(content: bytes) -> Iterator[bytes]:
    """The complete lines that start with ``#``, with their ends."""
    start = 0
    while content[start : start + 1] == b"#" and (end := content.find(b"\n", start) + 1):
        yield content[start:end]
        start = end


def _polarity(content: bytes, start: int, sensor: tuple[int, int] | None) -> Events:
    """The valid events of all packets of polarity events."""
    packets = list(_packets(content, start))
    if not packets:
        raise damaged(f"byte {start}", "no polarity event", "at least one")
    raw = np.concatenate([packet for packet, _ in packets])
    t = np.repeat([overflow << 31 for _, overflow in packets], [len(packet) for packet, _ in packets])
    if int(raw["time"].min()) < 0:
        raise damaged(f"event {int(raw['time'].argmin())}", f"a time of {raw['time'].min()} us", "times from 0 on")
    t += raw["time"]
    data = np.ascontiguousarray(raw["data"])
    valid = (data & 1).astype(bool)
    if not valid.all():
        data, t = data[valid], t[valid]
    return Events((data >> 17).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16), t, (data & 2).astype(bool), sensor)


def _packets(content: bytes, at: int) -> Iterator[tuple[np.ndarray, int]]:
    """(Events, overflows of the time at 2^31 before them) of each packet of polarity events."""
    end = len(content)
    while at < end:
        if at + PACKET.size > end:
            raise damaged(f"byte {at}", f"{end - at} bytes", f"a packet header of {PACKET.size}; the file is truncated")
        kind, _, width, offset, overflow, room, count, _ = PACKET.unpack_from(content, at)
        body = at + PACKET.size
        if width < 0 or room < 0 or body + width * room > end:
            raise damaged(f"byte {at}", f"a packet of {room} times {width} bytes", f"at most {end - body} bytes")
        if kind == POLARITY:
            if width != EVENT.itemsize or offset != 4 or not 0 <= count <= room or overflow < 0:
                found = f"polarity events of {width} bytes, time at {offset}, {count} of {room}, overflow {overflow}"
                raise damaged(f"byte {at}", found, "events of 8 bytes, time at 4, overflow from 0")
            if count:
                yield np.frombuffer(content, EVENT, count, body), overflow
        at = body + width * room
