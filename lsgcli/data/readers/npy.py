"""Recordings as numpy files: ``.npy`` with fields x, y, t, p, or ``.npz`` with arrays of these names.

Times are microseconds; p is 1 (or True) for ON and 0 or -1 for OFF. An ``.npz`` may hold ``sensor``: width and height.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import check_inside, check_memory, foreign
from lsgcli.data.readers.columns import fill
from lsgcli.data.readers.columns import sensor as sensor_of
from lsgcli.errors import DataError
from lsgcli.registry import register

FIELDS = ("x", "y", "t", "p")
HINT = "Write it as np.savez(path, x=..., y=..., t=..., p=..., sensor=(width, height)), t in microseconds."
COLUMNS = 14  # bytes that an event takes as columns
PEAK = 26  # and while the times are sorted
PART = 1 << 16  # numbers that are converted at once
DIRECTORY = 1 << 16  # bytes of the list of arrays in an .npz


@register("reader", "npy")
class Npy:
    """Events in numpy arrays; nothing pickled is accepted."""

    suffixes = (".npy", ".npz")

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"\x93NUMPY")

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "arrays x, y, t, p", hint=HINT), open(path, "rb") as stream:
            size = path.stat().st_size
            table = stream.read(6) == b"\x93NUMPY"
            stream.seek(0)
            columns, stated = (_table if table else _archive)(path, stream, size)
        x, y, t, on = columns
        for limit in (stated, sensor):
            check_inside(path, x, y, limit, lambda i: f"event {i}")
        if (t[1:] < t[:-1]).any():
            check_memory(path, size, PEAK * len(t), f"{len(t):,} events out of order")
        return in_order(x, y, t, on, stated, scratch=True)


Columns = tuple[list[np.ndarray], tuple[int, int] | None]


def _table(path: Path, stream: BinaryIO, size: int) -> Columns:
    """Columns of an ``.npy``."""
    shape, kind = _array_header(stream)
    _check_names(path, kind.names or ())
    _check_shapes(path, dict.fromkeys(FIELDS, shape))
    expected = stream.tell() + shape[0] * kind.itemsize
    if expected > size:
        raise DataError(f"{path}: byte {size}: found the end, expected {shape[0]} events to byte {expected}", hint=HINT)
    check_memory(path, size, size + COLUMNS * shape[0], f"{shape[0]:,} events")
    table = np.memmap(stream, dtype=kind, mode="r", offset=stream.tell(), shape=shape)

    def parts(name: str) -> Iterator[np.ndarray]:
        for i in range(0, shape[0], PART):
            yield np.asarray(table[name][i : i + PART])

    for name in FIELDS:
        if kind[name].subdtype is not None:
            raise DataError(f"{path}: field {name} is of type {kind[name]}, expected one number an event", hint=HINT)
    return [fill(path, name, parts(name), shape[0], HINT) for name in FIELDS], None


def _archive(path: Path, stream: BinaryIO, size: int) -> Columns:
    """Columns of an ``.npz``."""
    _check_directory(path, stream, size)
    with zipfile.ZipFile(stream) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        _check_names(path, tuple(members))
        shapes = {}
        for name in FIELDS:
            with _member(path, archive, members[name]) as member:
                shapes[name], _ = _array_header(member)
        _check_shapes(path, shapes)
        count = shapes["t"][0]
        check_memory(path, size, COLUMNS * count + 64 * PART, f"{count:,} events")
        columns = []
        for name in FIELDS:
            with _member(path, archive, members[name]) as member:
                _, kind = _array_header(member)
                columns.append(fill(path, name, _parts(member, kind, count), count, HINT))
        if "sensor" not in members:
            return columns, None
        with _member(path, archive, members["sensor"]) as member:
            shape, kind = _array_header(member)
            if shape != (2,):
                raise DataError(f"{path}: array sensor has shape {shape}, expected width and height", hint=HINT)
            value = np.frombuffer(member.read(2 * kind.itemsize), kind)
        return columns, sensor_of(path, value, HINT)


def _parts(member: BinaryIO, kind: np.dtype[Any], count: int) -> Iterator[np.ndarray]:
    while count > 0 and (content := member.read(min(PART, count) * kind.itemsize)):
        part = np.frombuffer(content[: len(content) - len(content) % kind.itemsize], kind)
        count -= len(part)
        yield part


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> BinaryIO:
    method = archive.getinfo(name).compress_type
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {name}: found compression {method}, expected none or deflate", hint=HINT)
    return archive.open(name)  # type: ignore[return-value]


def _array_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(Shape, type) of an array, which its data follow.

    Raises:
        ValueError: it is no such header, or one of Python objects.
    """
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the array format, not 1.0 or 2.0")
    try:
        shape, _, kind = readers[version](stream)
    except MemoryError as error:  # from its parser, where brackets are nested too deep
        raise ValueError("a header that cannot be parsed") from error
    if kind.hasobject:
        raise ValueError("Python objects")
    if not kind.itemsize or any(side < 0 for side in shape):
        raise ValueError(f"shape {shape} and type {kind}")
    return shape, kind


def _check_directory(path: Path, stream: BinaryIO, size: int) -> None:
    """Refuse a list of contents that takes much memory, before the library reads it."""
    stream.seek(max(0, size - (1 << 16) - 22))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise DataError(f"{path}: byte {size}: found no end of a zip archive, expected arrays x, y, t, p", hint=HINT)
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if length > DIRECTORY or b"PK\x06\x07" in tail[max(0, at - 20) : at]:
        raise DataError(f"{path}: found a list of contents of {length} bytes, expected at most {DIRECTORY}", hint=HINT)
    stream.seek(0)


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in FIELDS if name not in names]
    if missing:
        there = ", ".join(names[:12]) or "none"
        raise DataError(f"{path}: found arrays {there[:200]}; {', '.join(missing)} missing", hint=HINT)


def _check_shapes(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    shape = shapes["t"]
    if len(set(shapes.values())) > 1 or len(shape) != 1 or math.prod(shape) < 1:
        raise DataError(f"{path}: found shapes {str(shapes)[:200]}, expected equal lengths of at least 1", hint=HINT)
