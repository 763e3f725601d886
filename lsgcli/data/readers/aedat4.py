"""AEDAT 4, through the library ``aedat``: tonic's copy of CIFAR10-DVS, and what DV writes."""

from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError
from lsgcli.registry import register


@register("reader", "aedat4")
class Aedat4:
    """The first event stream of an AEDAT 4 file."""

    suffixes = (".aedat4",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"#!AER-DAT4")

    @staticmethod
    def read(path: Path) -> Events:
        """All events of the file."""
        with foreign(path, "an AEDAT 4 recording"):
            import aedat

            decoder = aedat.Decoder(str(path))
            streams = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
            first = min(streams, default=None)
            packets = [packet["events"] for packet in decoder if packet["stream_id"] == first and "events" in packet]
        if first is None or not sum(map(len, packets)):
            raise DataError(f"{path}: found no events, expected an AEDAT 4 recording of at least one", hint="Record it again.")
        found = np.concatenate(packets)
        sensor = (int(streams[first]["width"]), int(streams[first]["height"]))
        return in_order(found["x"], found["y"], found["t"], found["on"], sensor)
