"""The ``.bin`` files of N-MNIST and of N-Caltech101 (Orchard et al. 2015), which are of one format.

Five bytes an event: x; y; then, big-endian, 1 bit of polarity (1 is ON) and 23 bits of time in microseconds. A row y of
240, which no such camera has, is no event: it says that all times from there on are 2^13 us later than written.

tonic has a reader for them (``tonic.io.read_mnist_file``) that this one agrees with; but that takes 12 times the file's
size of memory, and time that grows with the square of the number of overflows.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, damaged, foreign
from lsgcli.registry import register

BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW = 1 << 13  # microseconds


@register("reader", "nmnist-bin")
class NmnistBin:
    """ATIS recordings of N-MNIST and N-Caltech101; they do not state their sensor."""

    suffixes = (".bin",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return False  # any bytes may be such a file

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an N-MNIST or N-Caltech101 recording"):
            content = path.read_bytes()
        if (rest := len(content) % BYTES) or not content:
            where = f"byte {len(content) - rest}"
            raise damaged(path, where, f"{rest} bytes", f"events of {BYTES} bytes: it is cut off")
        table = np.frombuffer(content, np.uint8).reshape(-1, BYTES)
        overflow = table[:, 1] == OVERFLOW_ROW
        places = None  # of the events among the rows of the table; None: all of them
        late = None
        if overflow.any():
            if overflow.all():
                raise damaged(path, "byte 0", "only time overflows", "at least one event")
            places = np.flatnonzero(~overflow)
            late = np.cumsum(overflow, dtype=np.int32)[places]
            table = table[places]
        x, y = table[:, 0].astype(np.uint16), table[:, 1].astype(np.uint16)
        check_inside(path, x, y, sensor, lambda i: f"byte {BYTES * int(i if places is None else places[i])}")
        t = (table[:, 2] & 127).astype(np.int64)
        for column in (3, 4):
            t <<= 8
            t |= table[:, column]
        if late is not None:
            t += late.astype(np.int64) * OVERFLOW
        return in_order(x, y, t, table[:, 2] > 127, None, scratch=True)
