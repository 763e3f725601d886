"""The ``.bin`` files of N-MNIST and of N-Caltech101 (Orchard et al. 2015), which are of one format, through tonic.

Five bytes an event: x; y; then, big-endian, 1 bit of polarity (1 is ON) and 23 bits of time in microseconds. A row y of
240, which no such camera has, is no event: it says that all times from there on are 2^13 us later than written.

tonic's reader takes 12 times the size of what it is given, and time that grows with the square of the number of overflows.
So it is given the file in pieces, and what overflowed before a piece is added to its times here.
"""

import io
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, damaged, foreign
from lsgcli.registry import register

BYTES = 5
PIECE = 10_000  # events
OVERFLOW_ROW = 240
OVERFLOW = 1 << 13  # microseconds
EXPECTED = "an N-MNIST or N-Caltech101 recording"
KIND = np.dtype([("x", np.uint16), ("y", np.uint16), ("t", np.int64), ("p", np.bool_)])


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
        with foreign(path, EXPECTED):
            content = path.read_bytes()
        if (rest := len(content) % BYTES) or not content:
            where = f"byte {len(content) - rest}"
            raise damaged(path, where, f"{rest} bytes", f"events of {BYTES} bytes: it is cut off")
        overflow = np.frombuffer(content, np.uint8)[1::BYTES] == OVERFLOW_ROW
        count = len(overflow) - int(np.count_nonzero(overflow))
        if not count:
            raise damaged(path, "byte 0", "only time overflows", "at least one event")
        with foreign(path, EXPECTED):
            x, y, t, on = _decoded(content, overflow, count)
        # A byte is looked up only where it is asked for: at an error.
        check_inside(path, x, y, sensor, lambda i: f"byte {BYTES * int(np.flatnonzero(~overflow)[i])}")
        return in_order(x, y, t, on, None, scratch=True)


def _decoded(content: bytes, overflow: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, t and polarity of all ``count`` events."""
    from tonic.io import read_mnist_file

    x, y, t, on = (np.empty(count, kind) for kind in (np.uint16, np.uint16, np.int64, np.bool_))
    done, late = 0, 0
    for first in range(0, len(overflow), PIECE):
        piece = io.BytesIO(content[first * BYTES : (first + PIECE) * BYTES])
        found = read_mnist_file(piece, dtype=KIND, is_stream=True)
        part = slice(done, done + len(found))
        x[part], y[part], t[part], on[part] = found["x"], found["y"], found["t"] + late, found["p"]
        done += len(found)
        late += int(np.count_nonzero(overflow[first : first + PIECE])) * OVERFLOW
    return x, y, t, on
