"""AEDAT 2.0 of a DVS128, the format of the original CIFAR10-DVS.

Text lines that start with ``#`` and end in CR LF; then, per event, eight bytes big-endian: u32 address, u32 time in
microseconds. Address: bit 0 polarity (0 is ON), bits 1-7 column (mirrored), bits 8-14 row (from below), the rest 0.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError
from lsgcli.registry import register

SIDE = 128
WRAP = 1 << 32
HINT = "Fetch or record it again, or take it out of the folder."


@register("reader", "aedat2")
class Aedat2:
    """AEDAT 2.0 files of 128x128 sensors."""

    suffixes = (".aedat",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"#!AER-DAT2")

    @staticmethod
    def read(path: Path) -> Events:
        """All events of the file."""
        with foreign(path, "an AEDAT 2.0 recording"):
            content = path.read_bytes()
        start = _header_end(path, content)
        _check_length(path, len(content), start)
        words = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2)
        address = words[:, 0].astype(np.uint32)
        _check_addresses(path, address, start)
        x = SIDE - 1 - (address >> 1 & 127)
        y = SIDE - 1 - (address >> 8 & 127)
        return in_order(x, y, _unwrap(words[:, 1]), (address & 1) == 0, (SIDE, SIDE))


def _header_end(path: Path, content: bytes) -> int:
    """Offset of the first line that does not start with ``#``."""
    if not content.startswith(b"#!AER-DAT2"):
        line = content[:12].split(b"\r")[0]
        raise DataError(f"{path}: byte 0: found {line!r}, expected #!AER-DAT2.0", hint=HINT)
    start = 0
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            raise DataError(f"{path}: byte {start}: found a header line without end, expected CR LF and events", hint=HINT)
        start = end + 1
    return start


def _check_length(path: Path, length: int, start: int) -> None:
    if length == start:
        raise DataError(f"{path}: byte {start}: found the end of the file, expected at least one event", hint=HINT)
    if (length - start) % 8:
        last = length - (length - start) % 8
        raise DataError(
            f"{path}: byte {last}: found {length - last} bytes, expected events of 8 bytes: it is cut off", hint=HINT
        )


def _check_addresses(path: Path, address: np.ndarray, start: int) -> None:
    wrong = address > 0x7FFF
    if wrong.any():
        i = int(wrong.argmax())
        found = f"address 0x{int(address[i]):08x}"
        raise DataError(f"{path}: byte {start + 8 * i}: found {found}, expected at most 0x00007fff of a DVS128", hint=HINT)


def _unwrap(stamps: np.ndarray) -> np.ndarray:
    """Times as int64 that go on past 2^32. A step of more than half the range is the counter wrapping, not time travel."""
    t = stamps.astype(np.int64)
    step = np.diff(t)
    wraps = (step < -WRAP // 2).astype(np.int64) - (step > WRAP // 2)
    t[1:] += np.cumsum(wraps) * WRAP
    return t
