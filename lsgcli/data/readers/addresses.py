"""Formats whose events have a fixed number of bytes: N-MNIST, N-Caltech101, and AEDAT 2.0.

``.bin`` of N-MNIST and N-Caltech101 (Orchard et al. 2015): five bytes per event: x; y; then, big-endian, 1 bit of polarity (1 is ON) and
23 bits of time in microseconds. y = 240, which is outside the sensor, marks an overflow: all later times are increased by 2^13 us.

AEDAT 2.0 of a DVS128, the format of the original CIFAR10-DVS, begins with text lines that start with ``#`` and end in CR LF. Then eight
bytes per event, big-endian: u32 address, u32 time in microseconds. Address: bit 0 polarity (0 is ON), bits 1-7 column (mirrored), bits
8-14 row (from below), the rest 0.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import Damaged, damaged
from lsgcli.data.readers.base import reader, records, unwrap, whole
from lsgcli.registry import register

OVERFLOW_ROW, OVERFLOW = 240, 1 << 13  # microseconds
EVENT = np.dtype([("x", "u1"), ("y", "u1"), ("high", "u1"), ("low", ">u2")])
LATE = 0.1  # share of the events of N-MNIST that may be earlier than the one before; in the published recordings none is
SIDE = 128
LARGEST = 0x7FFF  # address
ADDRESS = np.dtype([("address", ">u4"), ("time", ">u4")])


def _nmnist(chunks: Iterable[bytes]) -> Iterator[Events]:
    added = 0  # microseconds, by the overflows so far
    for _, raw in records(chunks, EVENT):
        high = raw["high"].astype(np.int64)
        t = (high & 0x7F) << 16 | raw["low"]
        t += added
        overflow = raw["y"] == OVERFLOW_ROW
        if overflow.any():
            t += np.cumsum(overflow) * OVERFLOW
            added += OVERFLOW * int(np.count_nonzero(overflow))
            raw = raw[~overflow]
            high = high[~overflow]
            t = t[~overflow]
        yield Events(raw["x"].astype(np.uint16), raw["y"].astype(np.uint16), t, high > 0x7F)


@register("reader", "nmnist-bin")
@reader(".bin", decode=_nmnist)
def nmnist(path: Path) -> Events:
    """ATIS recordings of N-MNIST and N-Caltech101; they do not state their sensor."""
    content = path.read_bytes()
    events = whole(_nmnist([content]))
    if content.isascii() and b"\0" not in content:
        raise damaged("byte 0", f"text, {content[:16]!r}", "events of 5 bytes")
    late = int(np.count_nonzero(events.t[1:] < events.t[:-1]))
    if late > LATE * len(events):
        raise Damaged(
            f"found {late:,} of {len(events):,} times earlier than the previous one, expected a recording sorted by time"
        )
    return events


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
