"""Recordings as arrays: numpy's ``.npy`` and ``.npz``, and MATLAB's ``.mat`` of version 5 (saved with -v6 or -v7).

Arrays x, y, t, p, or in an ``.npy`` fields of these names: whole numbers of any type. Times are microseconds; p is 1 (or True) for ON, 0
or -1 for OFF. An array ``sensor`` holds width and height, if there is one. Two published data sets have MATLAB files of their own
layout:

- ``spiketrain``, (101, N): ST-MNIST. A column is an event: 100 touch sensors in rows of 10, of which the one that fired
  holds 1 (pressed harder, ON) or -1 (OFF), and below them its time in seconds.
- ``ts``, ``x``, ``y``, ``pol``: ASL-DVS. A sensor of 240x180 whose rows are counted from below.

tonic decodes these two alike, except that its former ST-MNIST class had every event ON.

MATLAB files are not read by scipy.io, which ends the process (SIGSEGV) where an element has an unknown type or cells are nested deep, and
unpacks arrays without a limit. Source of the format: "MAT-File Format", MathWorks, level 5.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import Damaged, damaged
from lsgcli.data.readers.base import SIDE, reader
from lsgcli.data.readers.parsing import TIMES, check_memory
from lsgcli.registry import register

Arrays = Mapping[str, np.ndarray]
UNPACKED = 1 << 30  # bytes
EVENT = 40  # bytes of an event in the types of `Events`, and of what converting and sorting it takes
NUMPY = b"\x93NUMPY"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS = range(6, 16)  # classes of arrays: double, single and whole numbers; others are text, cells, structures, sparse
COMPLEX = 0x800
TOUCH, ASL_DVS = (10, 10), (240, 180)


@register("reader", "npy")
@reader(
    ".npy",
    ".npz",
    magic=rb"\x93NUMPY|PK\x03\x04",
    hint="Write it as np.savez(path, x=..., y=..., t=..., p=..., sensor=(width, height)), t in microseconds.",
)
def npy(path: Path) -> Events:
    """Events in numpy arrays; pickled objects are rejected."""
    with open(path, "rb") as stream:
        if stream.read(len(NUMPY)) != NUMPY:
            return _events(_members(path), path.stat().st_size)
    table = _array(path.read_bytes())
    return _events({name: table[name] for name in table.dtype.names or ()}, table.nbytes)


@register("reader", "mat")
@reader(
    ".mat",
    magic=rb"MATLAB 5\.0 MAT-file",
    hint="Save arrays t (microseconds), x, y and p (1 for ON) with MATLAB's save(..., '-v7').",
)
def mat(path: Path) -> Events:
    """MATLAB files of ST-MNIST (a tactile sensor, 10x10), of ASL-DVS, and of arrays x, y, t, p."""
    content = path.read_bytes()
    arrays = dict(_matrices(content))
    if "spiketrain" in arrays:
        return _touch(arrays["spiketrain"], len(content))
    arrays = {name: array.ravel(order="K") for name, array in arrays.items()}
    if {"ts", "pol", "y"} <= arrays.keys():
        _check_events(arrays, len(content))
        y = ASL_DVS[1] - 1 - arrays["y"].astype(np.float64)
        arrays |= {"y": y, "t": arrays["ts"], "p": arrays["pol"], "sensor": np.array(ASL_DVS)}
    return _events(arrays, len(content))


def _check_events(arrays: Arrays, size: int) -> None:
    """Check that a file of ``size`` bytes may become its arrays and their events."""
    longest = max((array.size for array in arrays.values()), default=0)
    needed = sum(array.nbytes for array in arrays.values()) + EVENT * longest
    check_memory(size, needed, f"arrays of {longest:,} numbers", room=UNPACKED)


def _events(arrays: Arrays, size: int) -> Events:
    """The events of the arrays x, y, t, p in a file of ``size`` bytes."""
    if missing := [name for name in "xytp" if name not in arrays]:
        there = ", ".join(list(arrays)[:12])[:200] or "none"
        raise Damaged(f"found arrays {there}, expected x, y, t, p: {', '.join(missing)} missing")
    _check_events(arrays, size)
    x, y, t, p = (arrays[name] for name in "xytp")
    return Events(x, y, t, p, _sensor(arrays["sensor"]) if "sensor" in arrays else None)


def _sensor(value: np.ndarray) -> tuple[int, int]:
    if value.size != 2 or value.dtype.kind not in "iuf" or not all(1 <= side <= SIDE and side % 1 == 0 for side in value.flat):
        raise Damaged(f"found an array sensor of {value!r:.200}, expected width and height")
    width, height = value.flat
    return int(width), int(height)


# ---- numpy ----


def _members(path: Path) -> dict[str, np.ndarray]:
    """The required arrays of an ``.npz``."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
        found = [archive.getinfo(f"{name}.npy") for name in ("x", "y", "t", "p", "sensor") if f"{name}.npy" in there]
        sizes = [info.file_size for info in found] or [0]
        check_memory(path.stat().st_size, sum(sizes) + max(sizes), "arrays", room=UNPACKED)  # unpacking takes an array twice
        for info in found:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise damaged(info.filename, f"compression {info.compress_type}", "none or deflate")
            with archive.open(info) as stream:
                arrays[info.filename[:-4]] = _array(stream.read(info.file_size), info.filename)
        return arrays or dict.fromkeys((name.removesuffix(".npy") for name in sorted(there)[:12]), np.empty(0))


def _array(content: bytes, name: str = "the array") -> np.ndarray:
    """The array of an ``.npy`` file, without a copy of it, and without allocating what its header claims; numpy refuses objects."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    try:
        shape, fortran, kind = HEADERS[version](stream)
    except (KeyError, MemoryError) as error:  # another version; brackets nested too deep for Python's parser
        raise damaged(name, f"a header that cannot be parsed, of version {version}", "one of version 1.0 or 2.0") from error
    if (end := stream.tell() + math.prod(shape) * kind.itemsize) > len(content):
        raise damaged(name, f"{len(content)} bytes", f"{end} of shape {shape} and type {kind}; the file is truncated")
    return np.frombuffer(content, kind, math.prod(shape), stream.tell()).reshape(shape, order="F" if fortran else "C")


# ---- MATLAB ----


def _matrices(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """(Name, array) of each array of numbers in a MATLAB file."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or struct.unpack_from(order + "H", content, 124) != (0x0100,):
        raise damaged("byte 124", f"version {content[124:128]!r}", "version 5 of MATLAB's format")
    room, unpacked = TIMES * len(content) + UNPACKED, 0
    for kind, body in _elements(memoryview(content)[128:], order, padded=False):
        if kind == COMPRESSED:
            inner = memoryview(zlib.decompressobj().decompress(body, (room - unpacked) // 2 + 1))  # which it takes twice
            check_memory(len(content), unpacked + 2 * len(inner), "arrays", room=UNPACKED)
            unpacked += len(inner)
            kind, body = next(_elements(inner, order, padded=False), (0, inner))
        if kind == MATRIX and (found := _matrix(body, order)):
            yield found


def _elements(content: memoryview, order: str, *, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """(Type, bytes) of each element; inside a matrix they are padded to 8 bytes, and small ones are stored in the tag."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        begin, step = at + 8, 8 + size + (-size % 8 if padded else 0)
        if kind >> 16:
            kind, size, begin, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        if begin + size > (len(content) if step > 8 else at + 8):
            raise Damaged(f"found an array of {size} bytes, expected at most {len(content) - begin}; the file is truncated")
        yield kind, content[begin : begin + size]
        at += step


def _matrix(body: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """(Name, array) of a matrix of real numbers; None of another."""
    (_, flags), (_, shape), (_, name), (kind, data) = islice(_elements(body, order), 4)
    (word,) = struct.unpack_from(order + "I", flags)
    if word & 0xFF not in NUMBERS or word & COMPLEX:
        return None
    sides = np.frombuffer(shape, order + "i4").tolist()
    return bytes(name).decode("latin-1"), np.frombuffer(data, order + TYPES[kind]).reshape(sides, order="F")


def _touch(train: np.ndarray, size: int) -> Events:
    """ST-MNIST."""
    taxels = TOUCH[0] * TOUCH[1]
    if train.ndim != 2 or train.shape[0] != taxels + 1:
        raise damaged("array spiketrain", f"shape {train.shape}", f"({taxels + 1}, N)")
    count = int(np.count_nonzero(train[:taxels]))
    check_memory(size, train.nbytes + 80 * count, f"{count:,} events", room=UNPACKED)
    moment, taxel = np.nonzero(train[:taxels].T)  # column by column, as MATLAB stores it
    t = np.trunc(train[taxels].astype(np.float64) * 1e6)[moment]
    return Events(taxel % TOUCH[0], taxel // TOUCH[0], t, train[taxel, moment] > 0, TOUCH)
