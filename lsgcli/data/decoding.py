"""Incremental decoding of recordings that are being written, for formats with a header and records of fixed size."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

import numpy as np

from lsgcli import registry
from lsgcli.data.events import Events
from lsgcli.data.guard import HINT
from lsgcli.data.readers import aedat, damaged, nmnist, unwrap
from lsgcli.errors import DataError

HEAD = 16  # bytes by which a format is recognised
HEADER = 1 << 16  # bytes of the longest header
NONE = Events(np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, bool))


class Decoder(ABC):
    """Incremental decoder from bytes to events, in the order of the stream.

    Args:
        name: name of the stream, for messages.
        sensor: (width, height) that must contain every event.

    Attributes:
        record: bytes per event.
        signed: whether files start with a signature.
        states: (width, height) of the sensor, if defined by the format.
    """

    record: ClassVar[int]
    signed: ClassVar[bool] = True
    states: ClassVar[tuple[int, int] | None] = None

    def __init__(self, name: str, sensor: tuple[int, int]):
        self.name, self.sensor = name, sensor
        self.rest, self.at, self.in_header = b"", 0, True
        self.problem: DataError | None = None

    def feed(self, content: bytes) -> Events:
        """The newly completed events, up to the first invalid one, for which :meth:`check` raises an error."""
        self.rest += content
        if self.in_header:
            self._skip(self.header(self.rest))
            if self.in_header:
                return NONE
        whole = len(self.rest) // self.record * self.record
        x, y, t, on, lines = self.decode(np.frombuffer(self.rest, np.uint8, whole).reshape(-1, self.record))
        width, height = self.sensor
        good = (x < width) & (y >= 0) & (y < height)
        n = len(x) if good.all() else int(good.argmin())
        if n < len(x):
            where, found = f"byte {self.at + self.record * int(lines[n])}", f"an event at x={x[n]}, y={y[n]}"
            self.problem = self.error(where, found, f"an event inside the sensor of {width}x{height}")
        self.rest, self.at = self.rest[whole:], self.at + whole
        return Events(x[:n].astype(np.uint16), y[:n].astype(np.uint16), t[:n], on[:n], self.states)

    def check(self) -> None:
        """Raise an error if the bytes after the last event were invalid.

        Raises:
            DataError: the bytes do not have this format.
        """
        if self.problem is not None:
            raise self.problem

    def end(self) -> None:
        """Check that the stream ends after a complete event.

        Raises:
            DataError: it ends inside the header or an event.
        """
        if self.in_header or self.rest:
            where = "its header" if self.in_header else f"an event of {self.record} bytes"
            raise self.error(f"byte {self.at + len(self.rest)}", "the end of the stream", f"the rest of {where}")

    def error(self, where: str, found: str, expected: str) -> DataError:
        """An error at a position of the stream."""
        return DataError(f"{self.name}: {damaged(where, found, expected)}", hint=HINT)

    def _skip(self, header: int | None) -> None:
        if header is not None:
            self.rest, self.at, self.in_header = self.rest[header:], header, False
        elif len(self.rest) > HEADER:
            raise self.error(f"byte {HEADER}", "more header", "events")

    def header(self, content: bytes) -> int | None:
        """Bytes before the first event; None if more content is required."""
        return 0

    @abstractmethod
    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, y, t in microseconds and polarity of each event of records (N, ``record``), and the index of its record."""


class Aedat2(Decoder):
    """AEDAT 2.0 of a DVS128: see :mod:`lsgcli.data.readers.aedat`."""

    record = aedat.ADDRESS.itemsize
    states = (aedat.SIDE, aedat.SIDE)
    last: tuple[int, int] | None = None  # time of the last event, as stored and unwrapped

    def header(self, content: bytes) -> int | None:
        start = 0
        while content[start : start + 1] == b"#":
            end = content.find(b"\n", start)
            if end < 0:
                return None
            start = end + 1
        return start if start < len(content) else None

    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        words = records.view(">u4").astype(np.int64)
        address, stamps = words[:, 0], words[:, 1]
        x, y = 127 - (address >> 1 & 127), 127 - (address >> 8)  # a row below 0 where the address has more than 15 bits
        if len(stamps):
            written = int(stamps[-1])
            before, t0 = self.last or (int(stamps[0]), int(stamps[0]))
            stamps = unwrap(np.append(before, stamps), 1 << 32)[1:] + (t0 - before)
            self.last = written, int(stamps[-1])
        return x, y, stamps, address & 1 == 0, np.arange(len(x))


class NmnistBin(Decoder):
    """The ``.bin`` files of N-MNIST and N-Caltech101: see :mod:`lsgcli.data.readers.nmnist`."""

    record = nmnist.KIND.itemsize
    signed = False
    late = 0  # microseconds that overflows have added

    def decode(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        x, y, high, middle, low = records.T.astype(np.int64)
        overflow = y == nmnist.OVERFLOW_ROW
        late = self.late + np.cumsum(overflow) * nmnist.OVERFLOW
        self.late = int(late[-1]) if len(late) else self.late
        t = ((high & 127) << 16 | middle << 8 | low) + late
        events = ~overflow
        return x[events], y[events], t[events], (high >> 7 == 1)[events], np.flatnonzero(events)


DECODERS: dict[str, type[Decoder]] = {"aedat2": Aedat2, "nmnist-bin": NmnistBin}


def decoder(name: str, head: bytes, known: Collection[str], sensor: tuple[int, int]) -> tuple[str, Decoder]:
    """The format of a stream that starts with ``head``, and a decoder for it.

    Args:
        name: path of the file, or - for stdin.
        known: formats of the training data; formats without a signature are detected only if listed here, or by suffix.
        sensor: (width, height) that must contain every event.

    Raises:
        DataError: the format does not support streams.
    """
    readers = {form: registry.get("reader", form) for form in registry.names("reader")}
    form = next((form for form, reader in readers.items() if reader.magic and reader.magic.match(head)), None)
    if form is None:
        unsigned = [form for form, kind in DECODERS.items() if not kind.signed]
        form = next((f for f in unsigned if name.lower().endswith(readers[f].suffixes) or (name == "-" and f in known)), None)
    if form not in DECODERS:
        found = form or (f"bytes {head[:8]!r}" if head else "no bytes")
        raise DataError(
            f"{name}: found {found}, expected a format that supports streams: AEDAT 2.0, or N-MNIST's"
            " .bin, which is assumed for stdin if the training data have that format",
            hint="Omit --stream, and give the file when it is complete.",
        )
    return form, DECODERS[form](name, sensor)
