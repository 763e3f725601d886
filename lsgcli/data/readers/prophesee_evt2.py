"""Prophesee EVT 2.0 (``.raw``), through the library ``expelliarmus``.

Lines of text, then words of 32 bits, little-endian, whose top 4 bits are their type: 0 and 1 an OFF and an ON event (6
bits of time, 11 of column, 11 of row), 8 the upper 28 bits of the time, in microseconds, of what follows. The types 10, 14
and 15 are no events of pixels and are passed over; others do not exist. Events before the first word of type 8 are left
out: nobody knows their time.
"""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order, unwrap
from lsgcli.data.guard import damaged, foreign
from lsgcli.data.readers import prophesee
from lsgcli.registry import register

WORD = 4  # bytes
EVENT_TYPES = 2  # below this
TIME_TYPE = 8
TYPES = (0, 1, TIME_TYPE, 10, 14, 15)
WRAP = 1 << 34


@register("reader", "prophesee-evt2")
class PropheseeEvt2:
    """Events of EVT 2.0 files; new ones state their sensor, old ones do not."""

    suffixes = (".raw",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"%") and prophesee.encoding(head) == "2.0"

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an EVT 2.0 recording"):
            content = path.read_bytes()
        found = prophesee.header(path, content)
        prophesee.need(path, found, "2.0")
        start, places = _places(path, content, found.start)
        del content

        def where(i: int) -> str:
            return f"byte {start + WORD * int(places[min(i, len(places) - 1)])}"

        events = prophesee.events_of(path, "evt2", start, len(places), (found.sensor, sensor), where)
        t = unwrap(events.t, WRAP)
        return in_order(events.x, events.y, t, events.on, found.sensor, scratch=True)


def _places(path: Path, content: bytes, start: int) -> tuple[int, np.ndarray]:
    """(Byte of the first word of type 8, places of the events after it, in words from there, uint32)."""
    if rest := (len(content) - start) % WORD:
        raise damaged(path, f"byte {len(content) - rest}", f"{rest} bytes", f"words of {WORD} bytes: it is cut off")
    kinds = np.frombuffer(content, np.uint8, offset=start)[WORD - 1 :: WORD] >> 4
    known = np.isin(np.arange(16), TYPES)[kinds]
    if not known.all():
        i = int((~known).argmax())
        raise damaged(path, f"byte {start + WORD * i}", f"a word of type {int(kinds[i])}", f"one of the types {TYPES}")
    timed = kinds == TIME_TYPE
    first = int(timed.argmax()) if timed.any() else len(kinds)
    places = np.flatnonzero(kinds[first:] < EVENT_TYPES).astype(np.uint32)
    if not len(places):
        raise damaged(path, f"byte {start}", "no event with a time", "at least one")
    return start + WORD * first, places
