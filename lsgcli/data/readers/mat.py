"""MATLAB files (version 5, as MATLAB saves with -v6 and -v7) of recordings, through scipy.

Three layouts are known, by the names of the arrays:

- ``spiketrain``, (101, n): ST-MNIST. A column is an event: 100 touch sensors in rows of 10, of which the one that fired
  holds 1 (pressed harder, ON) or -1 (OFF), and below them its time in seconds.
- ``ts``, ``x``, ``y``, ``pol``: ASL-DVS. Times in microseconds, a sensor of 240x180 whose rows are counted from below.
- ``t``, ``x``, ``y``, ``p``, and maybe ``sensor`` (width, height): yours. Microseconds, rows from above, p above 0 for ON.

tonic decodes the first two alike, except that its former ST-MNIST class had every event ON.
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, check_memory, damaged, foreign
from lsgcli.data.readers.columns import LATEST, fill
from lsgcli.data.readers.columns import sensor as sensor_of
from lsgcli.errors import DataError
from lsgcli.registry import register

HINT = "Save arrays t (microseconds), x, y and p (1 for ON) with MATLAB's save(..., '-v7')."
TEXT = 128  # bytes before the first array
COMPRESSED = 15
TOUCH = (10, 10)  # ST-MNIST's sensors
ASL_DVS = (240, 180)
NUMBERS = {"double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "logical"}
PART = 1 << 12
PEAK = 26  # bytes an event as columns, while the times are sorted
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int] | None]


@register("reader", "mat")
class Mat:
    """MATLAB files of ST-MNIST (a tactile sensor, 10x10) and ASL-DVS."""

    suffixes = (".mat",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"MATLAB 5.0 MAT-file")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "a MATLAB file of version 5", hint=HINT):
            content = path.read_bytes()
            file = _File(path, content)
            layout = _layout(file)
        x, y, t, on, stated = layout(file)
        for limit in (stated, sensor):
            check_inside(path, x, y, limit, lambda i: f"event {i}")
        return in_order(x, y, t, on, stated, scratch=True)


class _File:
    """The arrays of numbers in a MATLAB file, loaded one at a time.

    Attributes:
        shapes: name -> shape.
        size: bytes of the file.

    Raises:
        DataError: it is no such file, or an array unpacks to more than memory may hold.
    """

    def __init__(self, path: Path, content: bytes):
        import scipy.io

        self.path, self.content, self.size = path, content, len(content)
        self.largest = _largest(path, content)
        found = scipy.io.whosmat(io.BytesIO(content))
        self.shapes: dict[str, tuple[int, ...]] = {name: shape for name, shape, kind in found if kind in NUMBERS}

    def count(self, name: str) -> int:
        """How many numbers an array states that it has."""
        count = math.prod(int(side) for side in self.shapes[name])
        if not 0 < count <= self.largest:
            raise damaged(self.path, f"array {name}", f"{count:,} numbers", f"1 to {self.largest:,}", hint=HINT)
        return count

    def load(self, name: str) -> np.ndarray:
        """An array."""
        import scipy.io

        self.count(name)
        with foreign(self.path, f"an array {name} of numbers", hint=HINT):
            try:
                array = scipy.io.loadmat(io.BytesIO(self.content), variable_names=[name])[name]
            except MemoryError as error:
                raise ValueError("a size that memory cannot hold") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
            raise DataError(f"{self.path}: array {name} is a {type(array).__name__}, expected numbers", hint=HINT)
        return array


def _largest(path: Path, content: bytes) -> int:
    """Bytes of the largest array, unpacked; found without keeping any.

    Raises:
        DataError: more than memory may hold, or no such file.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or struct.unpack_from(order + "H", content, 124)[0] != 0x0100:
        raise damaged(path, "byte 124", f"version {content[124:128]!r}", "version 5 of MATLAB's files", hint=HINT)
    at, largest = TEXT, 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        at += 8
        if at + size > len(content):
            raise damaged(path, f"byte {at - 4}", f"an array of {size} bytes", f"at most {len(content) - at}", hint=HINT)
        unpacked = 0 if kind == COMPRESSED else size
        if kind == COMPRESSED:
            for length in _inflated(content[at : at + size]):
                unpacked += length
                # The library keeps a buffer of it beside the array.
                check_memory(path, len(content), len(content) + 2 * unpacked, f"an array of {unpacked:,} bytes and more")
        largest = max(largest, unpacked)
        at += size
    return largest


def _inflated(packed: bytes) -> Iterator[int]:
    """Sizes of the pieces that deflated bytes unpack to."""
    inflate = zlib.decompressobj()
    while packed and not inflate.eof:
        yield len(inflate.decompress(packed, 1 << 16))
        packed = inflate.unconsumed_tail


def _layout(file: _File) -> Callable[[_File], Columns]:
    """What makes columns of the arrays that are there."""
    for names, layout in LAYOUTS:
        if set(names) <= set(file.shapes):
            return layout
    there = ", ".join(list(file.shapes)[:12])[:200] or "none"
    expected = "; or ".join(", ".join(names) for names, _ in LAYOUTS)
    raise DataError(f"{file.path}: found arrays {there}, expected {expected}", hint=HINT)


def _touch(file: _File) -> Columns:
    """ST-MNIST."""
    train = file.load("spiketrain")
    taxels = TOUCH[0] * TOUCH[1]
    if train.ndim != 2 or train.shape[0] != taxels + 1:
        raise DataError(f"{file.path}: array spiketrain has shape {train.shape}, expected ({taxels + 1}, n)", hint=HINT)
    seconds = train[taxels].astype(np.float64)
    latest = float(np.abs(seconds).max())
    if not latest * 1e6 < LATEST:  # so that NaN is refused as well
        raise DataError(f"{file.path}: array spiketrain: found a time of {latest} s, expected seconds", hint=HINT)
    times = (seconds * 1e6).astype(np.int64)
    # Column by column is how MATLAB stores it, and there may be more than one sensor that fired.
    cuts = range(0, train.shape[1], PART)
    count = sum(int(np.count_nonzero(train[:taxels, i : i + PART])) for i in cuts)
    if not count:
        raise DataError(f"{file.path}: array spiketrain: found no event, expected at least one", hint=HINT)
    check_memory(file.path, file.size, file.size + train.nbytes + PEAK * count, f"{count:,} events")
    place, on = np.empty(count, np.uint16), np.empty(count, bool)
    t, done = np.empty(count, np.int64), 0
    for i in cuts:
        columns = train[:taxels, i : i + PART].T
        moment, taxel = np.nonzero(columns)
        part = slice(done, done + len(moment))
        place[part], t[part], on[part] = taxel, times[i + moment], columns[moment, taxel] > 0
        done += len(moment)
    return place % TOUCH[0], place // TOUCH[0], t, on, TOUCH


def _asl_dvs(file: _File) -> Columns:
    """ASL-DVS, turned upright."""
    x, y, t, on = _columns(file, {"x": "x", "y": "y", "t": "ts", "p": "pol"})
    check_inside(file.path, x, y, ASL_DVS, lambda i: f"event {i}")
    return x, ASL_DVS[1] - 1 - y, t, on, ASL_DVS


def _plain(file: _File) -> Columns:
    """Arrays t, x, y, p as they are."""
    stated = sensor_of(file.path, file.load("sensor"), HINT) if "sensor" in file.shapes else None
    x, y, t, on = _columns(file, {name: name for name in ("x", "y", "t", "p")})
    return x, y, t, on, stated


def _columns(file: _File, names: dict[str, str]) -> list[np.ndarray]:
    """x, y, t, p from the arrays of these names."""
    counts = {name: file.count(name) for name in names.values()}
    count = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise DataError(f"{file.path}: found lengths {counts}, expected equal ones", hint=HINT)
    check_memory(file.path, file.size, file.size + (PEAK + 8) * count, f"{count:,} events")
    columns = []
    for name, stored in names.items():
        flat = file.load(stored).ravel(order="K")
        parts = (flat[i : i + PART] for i in range(0, count, PART))
        columns.append(fill(file.path, name, parts, count, HINT))
    return columns


LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[_File], Columns]], ...] = (
    (("spiketrain",), _touch),
    (("ts", "x", "y", "pol"), _asl_dvs),
    (("t", "x", "y", "p"), _plain),
)
