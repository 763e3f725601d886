"""Readers of recordings: a parser for each format, and validation of their results.

A parser is a function from a path to :class:`~lsgcli.data.events.Events`, in the order of the file and with any numeric types. It may
raise any exception on invalid input. :func:`read` calls it, and returns events inside the sensor and sorted by time, or raises a
DataError that names the file, for any file content.

Reading requires at most 16 times the file size + 64 MiB of memory, in addition to imported libraries. For ``.npz``, which
may be compressed, it is 16 times the file size + 1 GiB.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from lsgcli import registry
from lsgcli.data.events import Events, Sensor, in_order, joined
from lsgcli.data.guard import HINT, Damaged, damaged, foreign, readable
from lsgcli.errors import DataError
from lsgcli.system import memory
from lsgcli.system.files import open_regular

HEADER = 1 << 16  # bytes of the longest header of a stream
TIMES = 16
ROOM = 64 << 20


def records(
    chunks: Iterable[bytes], kind: DTypeLike, header: Callable[[bytes], int | None] = lambda content: 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Position in bytes, and array, of the records that each chunk of a file or stream completes.

    Args:
        header: number of bytes before the first record, from the content so far; None if more content is required.

    Raises:
        Damaged: there is no record, or the last one is incomplete.
    """
    kind = np.dtype(kind)
    rest = b""
    at = 0
    begun = False
    empty = True
    for chunk in chunks:
        rest += chunk
        start = 0 if begun else header(rest)
        if start is None:
            if len(rest) > HEADER:
                raise damaged(f"byte {HEADER}", "more header", "events")
            continue
        begun = True
        count = (len(rest) - start) // kind.itemsize
        if count:
            empty = False
            yield at + start, np.frombuffer(rest, kind, count, start)
        end = start + count * kind.itemsize
        rest = rest[end:]
        at = at + end
    if begun and rest:
        raise damaged(f"byte {at}", f"{len(rest)} bytes", f"records of {kind.itemsize} bytes; the file is truncated")
    if empty:
        raise damaged(f"byte {at + len(rest)}", "the end of the file", "at least one event")


def table(content: bytes, start: int, kind: DTypeLike) -> np.ndarray:
    """The records of a file from byte ``start`` on.

    Raises:
        Damaged: there is no record, or the last one is incomplete.
    """
    ((_, found),) = records([content], kind, lambda _: start)
    return found


def whole(parts: Iterable[Events]) -> Events:
    """The events of all parts of a recording.

    Raises:
        Damaged: there is no part.
    """
    if not (found := list(parts)):
        raise Damaged("found no event, expected at least one")
    return joined(found)


def unwrap(stamps: np.ndarray, period: int, last: int | None = None) -> np.ndarray:
    """Unwrap the times of a counter that overflows after ``period``.

    A step of more than half the period, up or down, is treated as an overflow, forwards or (for a late event) backwards. Events may
    therefore be late by up to half a period.

    Args:
        stamps: (N,) int64, 0 to ``period`` - 1; overwritten.
        last: unwrapped time of the event before, if there is one.

    Returns:
        (N,) int64.
    """
    if last is not None:
        return unwrap(np.append(last % period, stamps), period)[1:] + last // period * period
    half = period // 2
    if len(stamps) < 2 or (int(stamps[-1]) - int(stamps[0]) <= half and not bool((stamps[1:] < stamps[:-1]).any())):
        return stamps
    step = np.diff(stamps)
    laps = (step < -half).view(np.int8) - (step > half).view(np.int8)
    stamps[1:] += np.cumsum(laps, dtype=np.int64) * period
    return stamps


def check_memory(size: int, needed: int, what: str, *, room: int = ROOM) -> None:
    """Check that the content of a file of ``size`` bytes does not require much more memory than the file size.

    Raises:
        Damaged: ``needed`` bytes exceed 16 times the file size + ``room``.
    """
    if needed > TIMES * size + room:
        raise Damaged(
            f"found {what}, which require {needed / (1 << 20):,.0f} MiB,"
            f" expected at most {TIMES} times the file size of {size:,} bytes + {room >> 20} MiB",
            hint="The file is damaged or malicious; otherwise, split it into shorter recordings.",
        )


HEAD = 4096  # bytes by which a format is recognised: longer than the text that Prophesee's files begin with
HEAD_OF_STREAM = 16  # bytes by which the format of a stream is recognised
SIDE = 1 << 16  # pixels; coordinates are uint16
LATEST = 1 << 62  # microseconds, before or after 0, so that no duration exceeds int64


class Reader(NamedTuple):
    """A recording format.

    Attributes:
        suffixes: file suffixes, lower case.
        magic: regular expression of the first bytes; None if the format is detected by suffix only.
        version: increase it when the parser returns different events for the same file.
        hint: hint for files that cannot be read.
        extra: extra of lsg that installs the library imported by ``parse``.
        decode: decodes the chunks of a stream; yields the events before an invalid one, and then raises the error.
    """

    parse: Callable[[Path], Events]
    suffixes: tuple[str, ...]
    magic: bytes | None = None
    version: int = 1
    hint: str = HINT
    extra: str = ""
    decode: Callable[[Iterable[bytes]], Iterator[Events]] | None = None


def reader(*suffixes: str, **attributes: Any) -> Callable[[Callable[[Path], Events]], Reader]:
    """Decorator that converts a parser to a :class:`Reader`, with its suffixes and further attributes."""
    return lambda parse: Reader(parse, suffixes, **attributes)


def read(path: Path, sensor: Sensor | None = None) -> Events:
    """Read a recording.

    Args:
        sensor: (width, height) that must contain every event, and equal the sensor size in the file, if stated.

    Returns:
        At least one event.

    Raises:
        DataError: the file does not exist, has an unknown format, is damaged, or has another sensor or events outside of it.
        ConfigError: the library for the format is not installed.
    """
    path = Path(path)
    name = identify(path)
    found = _readers()[name]
    with foreign(path, f"a recording of format {name}", hint=found.hint, extra=found.extra):
        return checked(found.parse(path), sensor, name)


def identify(path: Path) -> str:
    """Name of the reader for a recording, by content, or by suffix for formats without magic.

    Raises:
        DataError: the file does not exist, is empty, or has an unknown format.
    """
    path = Path(path)
    with readable(path), open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(HEAD)
    if size > (most := memory.total_bytes()):
        raise DataError(
            f"{path}: found {size:,} bytes, expected at most {most:,}, the memory of this machine",
            "Split it into shorter recordings.",
        )
    if form := _recognised(str(path), head):
        return form
    named = {name: found.hint for name, found in _readers().items() if path.suffix.lower() in found.suffixes}
    expected = " or ".join(named) or "a recording"
    hint = " ".join(dict.fromkeys(named.values())) or f"Convert it to one of {', '.join(suffixes())}."
    raise DataError(f"{path}: byte 0: found {head[:16]!r}, expected the start of {expected}", hint)


def read_stream(path: str, chunks: Iterable[bytes], known: Collection[str], sensor: Sensor) -> Iterator[tuple[str, Events]]:
    """Read a recording while it is written: the name of its reader, and the events of each chunk, in the order of the stream.

    Args:
        path: path of the file, or - for stdin.
        known: formats of the training data; on stdin, formats without magic are detected only if listed here.
        sensor: (width, height) that must contain every event.

    Raises:
        DataError: the format does not support streams, or the stream is damaged; raised after the events before the damage.
    """
    chunks = iter(chunks)
    head = b""
    while len(head) < HEAD_OF_STREAM and (chunk := next(chunks, b"")):
        head += chunk
    form = _recognised(path, head, known)
    decode = _readers()[form].decode if form else None
    if form is None or decode is None:
        streamed = [name for name, reader in _readers().items() if reader.decode]
        raise DataError(
            f"{path}: found {form or repr(head[:8])}, expected a format that supports streams: {', '.join(streamed)}; on stdin, one "
            "without a signature is assumed if the training data have it",
            "Omit --stream, and give the file when it is complete.",
        )
    seen = 0
    with foreign(path, f"a stream of format {form}"):
        for events in decode(chain([head], chunks)):
            inside = events[: events.outside(sensor)]
            yield form, replace(inside, sensor=sensor)
            check_inside(events, sensor, seen)
            seen += len(events)


def suffixes() -> tuple[str, ...]:
    """Suffixes of all supported formats."""
    return tuple(sorted({suffix for found in _readers().values() for suffix in found.suffixes}))


def versions(endings: Collection[str]) -> dict[str, int]:
    """``reader NAME`` -> version of the readers for the given suffixes."""
    return {
        f"reader {name}": found.version for name, found in _readers().items() if not set(endings).isdisjoint(found.suffixes)
    }


@cache
def _readers() -> dict[str, Reader]:
    return registry.every("reader")


def _recognised(path: str, head: bytes, known: Collection[str] = ()) -> str | None:
    """The format of a file or stream: by content, or else by suffix, or on stdin by the formats ``known``."""
    for name, found in _readers().items():
        if found.magic and re.match(found.magic, head):
            return name
    for name, found in _readers().items():
        if found.magic is None and (path.lower().endswith(found.suffixes) or (path == "-" and name in known)):
            return name
    return None


# ---- validation of every recording ----


def checked(events: Events, sensor: Sensor | None, form: str = "") -> Events:
    """The events, validated, sorted by time and converted to the types of :class:`Events`; ``form`` is the name of the reader."""
    x, y = (integers(name, getattr(events, name), 0, SIDE - 1, np.uint16) for name in ("x", "y"))
    t = integers("t", events.t, -LATEST, LATEST, np.int64)
    on = events.on if events.on.dtype == bool else integers("p", events.on, -1, 1, np.int8) > 0
    if len({len(x), len(y), len(t), len(on)}) > 1:
        raise Damaged(f"found {len(x)} x, {len(y)} y, {len(t)} t, {len(on)} p, expected equal numbers")
    if not len(t):
        raise Damaged("found no event, expected at least one")
    if sensor is not None and events.sensor not in (None, sensor):
        width, height = events.sensor or sensor
        raise Damaged(
            f"found a sensor of {width}x{height}, expected {sensor[0]}x{sensor[1]}",
            hint="Use recordings of one sensor only; omit --sensor if the recordings state it.",
        )
    made = Events(x, y, t, on, events.sensor or sensor, form)
    check_inside(made, made.sensor)
    return in_order(made)


def check_inside(events: Events, sensor: Sensor | None, first: int = 0) -> None:
    """Check that all events are inside the sensor, if it is known.

    Args:
        first: number of the first event in the recording.

    Raises:
        Damaged: an event is outside.
    """
    if sensor is not None and (i := events.outside(sensor)) is not None:
        raise Damaged(
            f"event {first + i}: found x={events.x[i]}, y={events.y[i]},"
            f" expected x below {sensor[0]} and y below {sensor[1]} of the sensor",
            hint="Give --sensor WIDTHxHEIGHT if the sensor is larger; otherwise download or record the file again.",
        )


def integers(name: str, values: np.ndarray, low: int, high: int, kind: type[np.generic]) -> np.ndarray:
    """Convert a column to another type, after checking that it is one-dimensional with integers from ``low`` to ``high``."""
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise Damaged(f"found {name} of type {values.dtype} and shape {values.shape}, expected integers of shape (N,)")
    wide = values
    if values.dtype.kind == "f":
        wide = values.astype(np.result_type(values, np.float64), copy=False)  # the bounds are not in the range of float16
    good = (wide >= low) & (wide <= high)
    if values.dtype.kind == "f":
        good &= wide == np.trunc(wide)
    if not good.all():  # NaN is not good
        i = int(good.argmin())
        raise damaged(f"event {i}", f"{name} = {values[i]}", f"an integer from {low} to {high}")
    return values.astype(kind, copy=False)
