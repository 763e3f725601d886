"""The ``.bin`` files of N-MNIST and N-Caltech101, through tonic: 5 bytes an event, 23 bits of time."""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError
from lsgcli.registry import register

BYTES = 5
HINT = "Fetch it again, or take it out of the folder."


@register("reader", "nmnist-bin")
class NmnistBin:
    """ATIS recordings of N-MNIST; they do not state their sensor."""

    suffixes = (".bin",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return False  # any bytes may be such a file

    @staticmethod
    def read(path: Path) -> Events:
        """All events of the file."""
        with foreign(path, "an N-MNIST recording"):
            length = path.stat().st_size
        if length % BYTES or not length:
            last = length - length % BYTES
            raise DataError(
                f"{path}: byte {last}: found {length - last} bytes, expected events of {BYTES}: it is cut off", hint=HINT
            )
        with foreign(path, "an N-MNIST recording"):
            from tonic.io import read_mnist_file

            kind = np.dtype([("x", np.uint16), ("y", np.uint16), ("t", np.int64), ("p", np.bool_)])
            found = read_mnist_file(str(path), dtype=kind)
        if not len(found):
            raise DataError(f"{path}: found only time overflows, expected at least one event", hint=HINT)
        return in_order(found["x"], found["y"], found["t"], found["p"], None)
