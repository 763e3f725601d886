"""AEDAT 3.1, the format of DVSGesture's own files and of what cAER writes.

Text lines that start with ``#``, the last of them ``#!END-HEADER``, each ending in CR LF. Then packets, little-endian:
a header of 28 bytes (i16 type, i16 source, i32 bytes of an event, i32 place of the time in it, i32 how often the times
have passed 2^31, i32 room for events, i32 events, i32 valid events) and that room. Type 1 is polarity events of 8 bytes:
u32 (bit 0 valid, bit 1 polarity with 1 for ON, bits 2-16 row, bits 17-31 column) and i32 time in microseconds.
Packets of other types and events that are not valid are passed over.
"""

import re
import struct
from functools import partial
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, check_memory, damaged, foreign
from lsgcli.registry import register

MAGIC = b"#!AER-DAT3.1"
LAST_LINE = b"#!END-HEADER"
HEADER = struct.Struct("<hhiiiiii")
POLARITY = 1
EVENT = 8  # bytes
PEAK = 26  # bytes that an event takes while the times are sorted
TUPLE = 176  # bytes of a tuple of three numbers in a list
# (width, height) of the cameras that a "#Source" line may name.
CAMERAS = {"DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260)}

Packet = tuple[int, int, int]  # where its events begin, how many, how often the time had passed 2^31


@register("reader", "aedat31")
class Aedat31:
    """The polarity events of AEDAT 3.1 files."""

    suffixes = (".aedat",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's, or an older third version's."""
        return head.startswith(b"#!AER-DAT3")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an AEDAT 3.1 recording"):
            content = path.read_bytes()
        start, stated = _header(path, content)
        packets = _packets(path, content, start)
        x, y, t, on = _empty(sum(count for _, count, _ in packets))
        done = 0
        for begin, count, overflow in packets:
            words = np.frombuffer(content, "<u4", 2 * count, begin).reshape(-1, 2)
            kept = np.flatnonzero(words[:, 0] & 1)
            words = words[kept]
            place = slice(done, done + len(kept))
            on[place] = words[:, 0] & 2
            y[place] = words[:, 0] >> 2 & 0x7FFF
            x[place] = words[:, 0] >> 17
            for limit in (stated, sensor):
                check_inside(path, x[place], y[place], limit, partial(_where, begin, kept))
            late = words[:, 1] >> 31
            if late.any():
                raise damaged(path, _where(begin + 4, kept, int(late.argmax())), "a time below 0", "a time from 0 on")
            t[place] = words[:, 1]
            t[place] += overflow << 31
            done += len(kept)
        if not done:
            raise damaged(path, f"byte {start}", "no valid polarity event", "at least one")
        return in_order(x[:done], y[:done], t[:done], on[:done], stated, scratch=True)


def _where(begin: int, kept: np.ndarray, i: int) -> str:
    return f"byte {begin + EVENT * int(kept[i])}"


def _empty(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(count, np.uint16), np.empty(count, np.uint16), np.empty(count, np.int64), np.empty(count, bool)


def _header(path: Path, content: bytes) -> tuple[int, tuple[int, int] | None]:
    """(Where packets begin, width and height of the camera that is named)."""
    if not content.startswith(MAGIC):
        raise damaged(path, "byte 0", repr(content[:14].split(b"\r")[0]), MAGIC.decode())
    start, sensor = 0, None
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            break
        line = content[start:end].rstrip(b"\r")
        if line.startswith(b"#Format:") and b"RAW" not in line.upper():
            raise damaged(path, f"byte {start}", f"{line[8:40].decode('latin-1').strip()!r}", "the format RAW, not compressed")
        if sensor is None and (match := re.match(rb"#Source \d+: ([A-Z]+\d+)", line)):
            sensor = CAMERAS.get(match[1].decode())
        start = end + 1
        if line == LAST_LINE:
            return start, sensor
    raise damaged(path, f"byte {start}", "no line #!END-HEADER", "one, and packets after it")


def _packets(path: Path, content: bytes, start: int) -> list[Packet]:
    """The packets of polarity events."""
    found: list[Packet] = []
    at, end = start, len(content)
    while at < end:
        if at + HEADER.size > end:
            raise damaged(path, f"byte {at}", f"{end - at} bytes", f"a packet's header of {HEADER.size}: it is cut off")
        kind, _, width, place, overflow, room, count, _ = HEADER.unpack_from(content, at)
        body = at + HEADER.size
        if width < 0 or room < 0 or body + width * room > end:
            raise damaged(path, f"byte {at}", f"a packet of {room} times {width} bytes", f"at most {end - body} bytes")
        if kind == POLARITY:
            if width != EVENT or place != 4 or not 0 <= count <= room or overflow < 0:
                what = f"polarity events of {width} bytes, time at {place}, {count} of {room}, overflow {overflow}"
                raise damaged(path, f"byte {at}", what, f"events of {EVENT} bytes, time at 4, at most {room}, overflow from 0")
            if count:
                found.append((body, count, overflow))
        at = body + width * room
    # Tuples of numbers take more than the events themselves where each packet has but one.
    check_memory(path, end, end + TUPLE * len(found) + PEAK * sum(count for _, count, _ in found), f"{len(found)} packets")
    return found
