"""Prophesee ``.dat`` (N-CARS, Gen1), through the library ``expelliarmus``.

Lines of text, a byte with the type of the events, a byte with their size, then 8 bytes an event, little-endian: u32 time
in microseconds, u32 of which bits 0-13 are the column, bits 14-27 the row and bit 28 the polarity, 1 for ON.
"""

from pathlib import Path

from lsgcli.data.events import Events, in_order, unwrap
from lsgcli.data.guard import damaged, foreign
from lsgcli.data.readers import prophesee
from lsgcli.registry import register

TYPES = (0x00, 0x0C)  # "2D" and "CD" events
EVENT = 8  # bytes
WRAP = 1 << 32


@register("reader", "prophesee-dat")
class PropheseeDat:
    """Events of Prophesee's .dat files; some state their sensor, N-CARS does not."""

    suffixes = (".dat",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"% Data file containing")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "a Prophesee .dat recording"):
            size = path.stat().st_size
            with open(path, "rb") as stream:
                content = stream.read(1 << 16)
        found = prophesee.header(path, content)
        start = found.start + 2
        if start > size:
            raise damaged(path, f"byte {found.start}", "the end of the file", "type and size of the events")
        kind, width = content[found.start : start]
        if kind not in TYPES or width != EVENT:
            what = f"events of type {kind} and {width} bytes"
            raise damaged(path, f"byte {found.start}", what, f"type 0 or 12 and {EVENT} bytes")
        if size == start:
            raise damaged(path, f"byte {start}", "the end of the file", "at least one event")
        if rest := (size - start) % EVENT:
            raise damaged(path, f"byte {size - rest}", f"{rest} bytes", f"events of {EVENT} bytes: it is cut off")

        def where(i: int) -> str:
            return f"byte {start + EVENT * i}"

        events = prophesee.events_of(path, "dat", start, (size - start) // EVENT, (found.sensor, sensor), where)
        # The library takes every step back for the counter passing 2^32, be it of one microsecond; this takes it back.
        t = unwrap(events.t, WRAP)
        return in_order(events.x, events.y, t, events.on, found.sensor, scratch=True)
