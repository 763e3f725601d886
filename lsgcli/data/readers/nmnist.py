"""The ``.bin`` format of N-MNIST and N-Caltech101 (Orchard et al. 2015).

Five bytes per event: x; y; then, big-endian, 1 bit of polarity (1 is ON) and 23 bits of time in microseconds. y = 240, which is outside
the sensor, marks an overflow: all later times are increased by 2^13 us.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import Damaged, damaged
from lsgcli.data.readers.base import reader, records, whole
from lsgcli.registry import register

OVERFLOW_ROW, OVERFLOW = 240, 1 << 13  # microseconds
KIND = np.dtype([("x", "u1"), ("y", "u1"), ("high", "u1"), ("low", ">u2")])
LATE = 0.1  # share of the events that may be earlier than the one before; in the published recordings none is


def _nmnist(chunks: Iterable[bytes]) -> Iterator[Events]:
    added = 0  # microseconds, by the overflows so far
    for _, raw in records(chunks, KIND):
        high = raw["high"].astype(np.int64)
        t = (high & 0x7F) << 16 | raw["low"]
        t += added
        overflow = raw["y"] == OVERFLOW_ROW
        if overflow.any():
            t += np.cumsum(overflow) * OVERFLOW
            added += OVERFLOW * int(np.count_nonzero(overflow))
            raw, high, t = raw[~overflow], high[~overflow], t[~overflow]
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
