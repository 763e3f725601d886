"""AEDAT 2.0 of a DVS128, the format of the original CIFAR10-DVS.

It begins with text lines that start with ``#`` and end in CR LF. Then eight bytes per event, big-endian: u32 address, u32 time in
microseconds. Address: bit 0 polarity (0 is ON), bits 1-7 column (mirrored), bits 8-14 row (from below), the rest 0.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import damaged
from lsgcli.data.readers.base import reader, records, unwrap, whole
from lsgcli.registry import register

SIDE = 128
LARGEST = 0x7FFF  # address
ADDRESS = np.dtype([("address", ">u4"), ("time", ">u4")])


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
    """Where the events begin; None if the lines of text may go on."""
    start = 0
    while content[start : start + 1] == b"#" and (end := content.find(b"\n", start) + 1):
        start = end
    return None if content[start : start + 1] in (b"", b"#") else start


@register("reader", "aedat2")
@reader(".aedat", magic=rb"#!AER-DAT2", decode=_aedat2)
def aedat2(path: Path) -> Events:
    """AEDAT 2.0 files of 128x128 sensors."""
    return whole(_aedat2([path.read_bytes()]))
