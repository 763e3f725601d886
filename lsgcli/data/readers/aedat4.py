"""AEDAT 4, through the library ``aedat``: tonic's copy of CIFAR10-DVS, and what DV writes."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, check_memory, damaged, foreign
from lsgcli.data.readers import aedat4_packets as aedat4
from lsgcli.errors import DataError
from lsgcli.registry import register

PEAK = 28  # bytes an event: as the library gives it, as columns, and room to sort the times


@register("reader", "aedat4")
class Aedat4:
    """The first event stream of an AEDAT 4 file."""

    suffixes = (".aedat4",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"#!AER-DAT4")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an AEDAT 4 recording"), open(path, "rb") as stream:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
                size = len(content)
                aedat4.check(path, content)
            stated, packets = _packets(path, size)
        x, y, t, on = (np.concatenate([packet[name] for packet in packets]) for name in ("x", "y", "t", "on"))
        packets.clear()
        for limit in (stated, sensor):
            check_inside(path, x, y, limit, lambda i: f"event {i}")
        if int(t.max()) >> 63:  # the library reads signed times as unsigned
            i = int((t >> 63).argmax())
            raise damaged(path, f"event {i}", f"the time {int(t[i]) - (1 << 64)} us", "a time from 0 on")
        return in_order(x, y, t.view(np.int64), on, stated, scratch=True)


def _packets(path: Path, size: int) -> tuple[tuple[int, int], list[np.ndarray[Any, Any]]]:
    """(Width and height, packets of the first event stream)."""
    import aedat

    decoder = aedat.Decoder(str(path))
    streams = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    first = min(streams, default=None)
    if first is None:
        raise DataError(f"{path}: found no stream of events, expected an AEDAT 4 recording with one", hint="Record it again.")
    packets, count = [], 0
    for packet in decoder:
        if packet["stream_id"] == first and len(packet.get("events", ())):
            packets.append(packet["events"])
            count += len(packet["events"])
            check_memory(path, size, PEAK * count, f"{count:,} events and more")
    if not packets:
        raise DataError(f"{path}: found no events, expected an AEDAT 4 recording of at least one", hint="Record it again.")
    return (int(streams[first]["width"]), int(streams[first]["height"])), packets
