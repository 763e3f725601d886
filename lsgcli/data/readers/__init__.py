"""Readers of recordings: a parser for each format, and validation of their results.

A parser is a function from a path to :class:`~lsgcli.data.events.Events`, in the order of the file and with any numeric types. It may
raise any exception on invalid input. :func:`read` calls it, and returns events inside the sensor and sorted by time, or raises a
DataError that names the file, for any file content.

Reading requires at most 16 times the file size + 64 MiB of memory, in addition to imported libraries. For ``.npz`` and ``.mat``, the
uncompressed arrays may have up to 16 times the file size + 1 GiB.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISREG

import numpy as np
from numpy.typing import DTypeLike

from lsgcli import registry
from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import HINT, foreign
from lsgcli.errors import DataError

HEAD = 4096  # bytes by which a format is recognised: longer than the text that Prophesee's files begin with
TIMES, ROOM, UNPACKED = 16, 64 << 20, 1 << 30
SIDE = 1 << 16  # pixels; coordinates are uint16
LATEST = 1 << 62  # microseconds, before or after 0, so that no duration exceeds int64

Parser = Callable[[Path], Events]
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x, y, t, on


@dataclass(frozen=True)
class Reader:
    """A recording format.

    Attributes:
        suffixes: file suffixes, lower case.
        magic: pattern of the first bytes; None if the format is detected by suffix only.
        version: increase it when the parser returns different events for the same file.
        hint: hint for files that cannot be read.
        extra: extra of lsg that installs the library imported by ``parse``.
    """

    parse: Parser
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes] | None
    version: int
    hint: str
    extra: str


def reader(
    *suffixes: str, magic: bytes | None = None, version: int = 1, hint: str = HINT, extra: str = ""
) -> Callable[[Parser], Reader]:
    """Decorator that converts a parser to a :class:`Reader`; ``magic`` is a regular expression."""
    return lambda parse: Reader(parse, suffixes, None if magic is None else re.compile(magic), version, hint, extra)


class Damaged(ValueError):
    """Invalid content, raised by parsers; :func:`read` adds the file name and a default hint."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


def damaged(where: str, found: str, expected: str) -> Damaged:
    """Message about invalid content at a position, such as ``byte 8`` or ``event 3``."""
    return Damaged(f"{where}: found {found}, expected {expected}")


def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
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
        try:
            return checked(found.parse(path), sensor)
        except Damaged as error:
            raise DataError(f"{path}: {error}", hint=error.hint or found.hint) from None


def identify(path: Path) -> str:
    """Name of the reader for a recording, by content, or by suffix for formats without magic.

    Raises:
        DataError: the file does not exist, is empty, or has an unknown format.
    """
    path = Path(path)
    try:
        if not S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: found no file, expected a recording", hint="Check the path.")
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check the path and its permissions.") from error
    if not head:
        raise DataError(f"{path}: found an empty file (byte 0), expected a recording", hint="Download or record it again.")
    for name, found in _readers().items():
        if found.magic and found.magic.match(head):
            return name
    named = {name: found for name, found in _readers().items() if path.suffix.lower() in found.suffixes}
    for name, found in named.items():
        if found.magic is None:
            return name
    if named:
        hints = dict.fromkeys(found.hint for found in named.values())
        raise DataError(
            f"{path}: byte 0: found {head[:16]!r}, expected the start of {' or '.join(named)}", hint=" ".join(hints)
        )
    raise DataError(
        f"{path}: found an unknown format, expected one of {', '.join(suffixes())}",
        hint="Convert it, for example to .npz.",
    )


def suffixes() -> tuple[str, ...]:
    """Suffixes of all supported formats."""
    return tuple(sorted({suffix for found in _readers().values() for suffix in found.suffixes}))


def versions(endings: Collection[str]) -> dict[str, int]:
    """Name -> version of the readers for the given suffixes."""
    return {name: found.version for name, found in _readers().items() if not set(endings).isdisjoint(found.suffixes)}


@cache
def _readers() -> dict[str, Reader]:
    return {name: registry.get("reader", name) for name in registry.names("reader")}


# ---- validation of every recording ----


def checked(events: Events, sensor: tuple[int, int] | None) -> Events:
    """The events, validated, sorted by time and converted to the types of :class:`Events`."""
    x, y = (_whole(name, getattr(events, name), 0, SIDE - 1, np.uint16) for name in ("x", "y"))
    t = _whole("t", events.t, -LATEST, LATEST, np.int64)
    on = events.on if events.on.dtype == bool else _whole("p", events.on, -1, 1, np.int8) > 0
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
    if (limit := events.sensor or sensor) is not None and (int(x.max()) >= limit[0] or int(y.max()) >= limit[1]):
        i = int(((x >= limit[0]) | (y >= limit[1])).argmax())
        raise Damaged(
            f"event {i}: found x={x[i]}, y={y[i]}, expected x below {limit[0]} and y below {limit[1]} of the sensor",
            hint="Give --sensor WIDTHxHEIGHT if the sensor is larger; otherwise download or record the file again.",
        )
    ordered = in_order(x, y, t, on, events.sensor)
    if ordered.t[0] < -LATEST or ordered.t[-1] > LATEST:
        raise Damaged(f"found times from {ordered.t[0]} to {ordered.t[-1]} us, expected {-LATEST} to {LATEST}")
    return ordered


def _whole(name: str, values: np.ndarray, low: int, high: int, kind: type[np.generic]) -> np.ndarray:
    """Convert a column to another type, after checking that it is one-dimensional with integers from ``low`` to ``high``."""
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise Damaged(f"found {name} of type {values.dtype} and shape {values.shape}, expected integers of shape (N,)")
    if values.dtype == kind or not len(values):
        return values.astype(kind, copy=False)
    if values.dtype.kind == "f":
        wide = values.astype(np.result_type(values, np.float64), copy=False)  # the bounds are not in the range of float16
        good = (wide >= low) & (wide <= high) & (wide == np.trunc(wide))  # NaN fails
        i = 0 if good.all() else int((~good).argmax())
    else:
        i = int(values.argmin()) if int(values.min()) < low else int(values.argmax())
    value = values[i].item()
    if not (low <= value <= high and value % 1 == 0):
        raise damaged(f"event {i}", f"{name} = {value}", f"an integer from {low} to {high}")
    return values.astype(kind)


# ---- helpers of parsers ----


def records(content: bytes, start: int, kind: DTypeLike) -> np.ndarray:
    """The bytes from ``start`` on as an array of records.

    Raises:
        Damaged: there is no record, or the last one is incomplete.
    """
    kind, length = np.dtype(kind), len(content) - start
    if length <= 0:
        raise damaged(f"byte {len(content)}", "the end of the file", "at least one event")
    if rest := length % kind.itemsize:
        raise damaged(
            f"byte {len(content) - rest}", f"{rest} bytes", f"records of {kind.itemsize} bytes; the file is truncated"
        )
    return np.frombuffer(content, kind, offset=start)


def joined(parts: Iterable[Columns], sensor: tuple[int, int] | None) -> Events:
    """Concatenate events that were decoded in parts."""
    columns = [list(column) for column in zip(*parts, strict=True)]
    if not columns:
        raise Damaged("found no event, expected at least one")
    x, y, t, on = (np.concatenate(columns.pop(0)) for _ in range(4))  # one at a time, so that only one is there twice
    return Events(x, y, t, on, sensor)


def unwrap(stamps: np.ndarray, period: int) -> np.ndarray:
    """Unwrap the times of a counter that overflows after ``period``.

    A step of more than half the period, up or down, is treated as an overflow, forwards or (for a late event) backwards. Events may
    therefore be late by up to half a period.

    Args:
        stamps: (N,) int64, 0 to ``period`` - 1; overwritten.

    Returns:
        (N,) int64, the same array.
    """
    half = period // 2
    if len(stamps) < 2 or (int(stamps[-1]) - int(stamps[0]) <= half and not bool((stamps[1:] < stamps[:-1]).any())):
        return stamps
    step = np.diff(stamps)
    laps = (step < -half).view(np.int8) - (step > half).view(np.int8)
    if laps.any():
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
