"""The ``.bin`` format of N-MNIST and N-Caltech101 (Orchard et al. 2015).

Five bytes per event: x; y; then, big-endian, 1 bit of polarity (1 is ON) and 23 bits of time in microseconds. y = 240, which is outside
the sensor, marks an overflow: all later times are increased by 2^13 us.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.readers import Damaged, damaged, reader, records
from lsgcli.registry import register

OVERFLOW_ROW, OVERFLOW = 240, 1 << 13  # microseconds
KIND = np.dtype([("x", "u1"), ("y", "u1"), ("high", "u1"), ("low", ">u2")])
LATE = 0.1  # share of the events that may be earlier than the one before; in the published recordings none is


@register("reader", "nmnist-bin")
@reader(".bin")
def nmnist(path: Path) -> Events:
    """ATIS recordings of N-MNIST and N-Caltech101; they do not state their sensor."""
    content = path.read_bytes()
    raw = records(content, 0, KIND)
    if content.isascii() and b"\0" not in content:
        raise damaged("byte 0", f"text, {content[:16]!r}", "events of 5 bytes")
    high = raw["high"].astype(np.int64)
    t = (high & 0x7F) << 16 | raw["low"]
    overflow = raw["y"] == OVERFLOW_ROW
    if overflow.any():
        t += np.cumsum(overflow) * OVERFLOW
        raw, high, t = raw[~overflow], high[~overflow], t[~overflow]
    late = int(np.count_nonzero(t[1:] < t[:-1]))
    if late > LATE * len(t):
        raise Damaged(f"found {late:,} of {len(t):,} times earlier than the previous one, expected a recording sorted by time")
    return Events(raw["x"], raw["y"], t, high > 0x7F)
