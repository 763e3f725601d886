"""Writer of recordings in AEDAT 2.0, as in CIFAR10-DVS, in the coordinates of the reader."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.system.files import replacing

SIDE = 128  # pixels of a DVS128
HEADER = (
    "!AER-DAT2.0",
    " Events of a DVS128: 8 bytes each, big-endian, uint32 address and uint32 time",
    " Address: bit 0 polarity (0 is ON), bits 1-7 127 - x, bits 8-14 127 - y",
    " Time: microseconds",
)


def write_aedat2(path: Path, events: Events, *, comments: Iterable[str] = ()) -> None:
    """Write events of a 128x128 sensor as AEDAT 2.0, atomically.

    ``#`` lines that end in CR LF, then 8 bytes an event: big-endian u32 address and u32 microseconds. The address of a
    DVS128 needs 15 bits, so the first byte after the header is 0, which no parser takes for another ``#`` line.

    Args:
        events: in the reader's coordinates: x = 127 - bits 1-7, y = 127 - bits 8-14. Times are 0 to 2^32 - 1 us.
        comments: further header lines. Characters other than printable ASCII are written as backslash escapes.

    Raises:
        StorageError: the file cannot be written.
    """
    lines = (*HEADER, *(f" {line.encode('unicode_escape').decode('ascii')}" for line in comments))
    words = np.empty((len(events), 2), ">u4")
    x, y = (SIDE - 1 - axis.astype(np.uint32) for axis in (events.x, events.y))
    words[:, 0] = y << 8 | x << 1 | ~events.on
    words[:, 1] = events.t
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write("".join(f"#{line}\r\n" for line in lines).encode("ascii"))
        stream.write(words.data)
