"""AEDAT 2.0 of a DVS128, the format of the original CIFAR10-DVS.

Text lines that start with ``#`` and end in CR LF; then, per event, eight bytes big-endian: u32 address, u32 time in
microseconds. Address: bit 0 polarity (0 is ON), bits 1-7 column (mirrored), bits 8-14 row (from below), the rest 0.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order, unwrap
from lsgcli.data.guard import check_inside, damaged, foreign
from lsgcli.registry import register

SIDE = 128
WRAP = 1 << 32
EVENT = 8  # bytes


@register("reader", "aedat2")
class Aedat2:
    """AEDAT 2.0 files of 128x128 sensors."""

    suffixes = (".aedat",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"#!AER-DAT2")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an AEDAT 2.0 recording"):
            content = path.read_bytes()
        start = _header_end(path, content)
        _check_length(path, len(content), start)
        words = np.frombuffer(content, ">u4", offset=start)
        whole = words[0::2].astype(np.uint32)
        _check_addresses(path, whole, start)
        # Few passes, over small numbers: a recording of 210,000 events is read in a millisecond.
        address = whole.astype(np.uint16)
        x = address >> 1
        x &= 127
        x ^= 127  # 127 - x of seven bits
        y = address >> 8
        y ^= 127
        on = (address & 1) == 0
        if sensor is not None and min(sensor) < SIDE:
            check_inside(path, x, y, sensor, lambda i: f"byte {start + EVENT * i}")
        t = unwrap(words[1::2].astype(np.int64), WRAP)
        return in_order(x, y, t, on, (SIDE, SIDE), scratch=True)


def _header_end(path: Path, content: bytes) -> int:
    """Offset of the first line that does not start with ``#``."""
    if not content.startswith(b"#!AER-DAT2"):
        line = content[:12].split(b"\r")[0]
        raise damaged(path, "byte 0", repr(line), "#!AER-DAT2.0")
    start = 0
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            raise damaged(path, f"byte {start}", "a header line without end", "CR LF and events")
        start = end + 1
    return start


def _check_length(path: Path, length: int, start: int) -> None:
    if length == start:
        raise damaged(path, f"byte {start}", "the end of the file", "at least one event")
    if rest := (length - start) % EVENT:
        raise damaged(path, f"byte {length - rest}", f"{rest} bytes", f"events of {EVENT} bytes: it is cut off")


def _check_addresses(path: Path, address: np.ndarray, start: int) -> None:
    if int(address.max()) > 0x7FFF:
        i = int((address > 0x7FFF).argmax())
        found = f"address 0x{int(address[i]):08x}"
        raise damaged(path, f"byte {start + EVENT * i}", found, "at most 0x00007fff of a DVS128")
