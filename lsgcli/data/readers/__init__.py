"""Readers of recordings: a plain parser for each format, and one boundary around all of them.

A parser is a function from a path to :class:`~lsgcli.data.events.Events`, in the order of the file and of any numeric types. It trusts
the file as far as numpy does: what it cannot decode may raise anything. :func:`read` calls it, and whatever the bytes of a file are, gives
events inside the sensor and in order of time, or a DataError that names the file.

Reading takes at most 16 times the file's size + 64 MiB of memory, beyond what a library takes once when it is imported. The arrays of an
``.npz`` or ``.mat`` count with the size that they unpack to, which may be 16 times the file's size + 1 GiB.
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
    """How a format is recognised and parsed.

    Attributes:
        suffixes: endings of the names of such files, lower case.
        magic: what such a file begins with. None: only the suffix tells the format.
        version: raise it when the same file gives other events.
        hint: what to do with a file that cannot be read.
        extra: the extra of lsg that installs the library that ``parse`` imports.
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
    """Decorate a parser to make a :class:`Reader` of it; ``magic`` is a regular expression."""
    return lambda parse: Reader(parse, suffixes, None if magic is None else re.compile(magic), version, hint, extra)


class Damaged(ValueError):
    """What is wrong with a file, to be raised by parsers; :func:`read` adds the file's name and, without a hint, the reader's."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


def damaged(where: str, found: str, expected: str) -> Damaged:
    """What is wrong at one place of a file, such as ``byte 8`` or ``event 3``."""
    return Damaged(f"{where}: found {found}, expected {expected}")


def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
    """Read a recording.

    Args:
        sensor: (width, height): every event must lie inside it, and where the file states its sensor, that must be the same.

    Returns:
        At least one event.

    Raises:
        DataError: no such file, no reader for it, damaged, of another sensor, or with an event outside the sensor.
        ConfigError: the library that reads the format is not installed.
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
    """Name of the reader of a recording: by its content, or by its suffix where the format has no magic.

    Raises:
        DataError: no such file, empty, or no reader for it.
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
        raise DataError(f"{path}: found an empty file (byte 0), expected a recording", hint="Fetch or record it again.")
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
        f"{path}: found no format that can be read, expected one of {', '.join(suffixes())}",
        hint="Convert it, for example to .npz.",
    )


def suffixes() -> tuple[str, ...]:
    """The endings of file names that some reader knows."""
    return tuple(sorted({suffix for found in _readers().values() for suffix in found.suffixes}))


def versions(endings: Collection[str]) -> dict[str, int]:
    """Name -> version of the readers of files whose names end so."""
    return {name: found.version for name, found in _readers().items() if not set(endings).isdisjoint(found.suffixes)}


@cache
def _readers() -> dict[str, Reader]:
    return {name: registry.get("reader", name) for name in registry.names("reader")}


# ---- what is checked of every recording ----


def checked(events: Events, sensor: tuple[int, int] | None) -> Events:
    """The events in order of time and in the types of :class:`Events`."""
    x, y = (_whole(name, getattr(events, name), 0, SIDE - 1, np.uint16) for name in ("x", "y"))
    t = _whole("t", events.t, -LATEST, LATEST, np.int64)
    on = events.on if events.on.dtype == bool else _whole("p", events.on, -1, 1, np.int8) > 0
    if len({len(x), len(y), len(t), len(on)}) > 1:
        raise Damaged(f"found {len(x)} x, {len(y)} y, {len(t)} t, {len(on)} p, expected as many of each")
    if not len(t):
        raise Damaged("found no event, expected at least one")
    if sensor is not None and events.sensor not in (None, sensor):
        width, height = events.sensor or sensor
        raise Damaged(
            f"found a sensor of {width}x{height}, expected {sensor[0]}x{sensor[1]}",
            hint="Keep recordings of one sensor together; omit --sensor where the recordings state it.",
        )
    if (limit := events.sensor or sensor) is not None and (int(x.max()) >= limit[0] or int(y.max()) >= limit[1]):
        i = int(((x >= limit[0]) | (y >= limit[1])).argmax())
        raise Damaged(
            f"event {i}: found x={x[i]}, y={y[i]}, expected x below {limit[0]} and y below {limit[1]} of the sensor",
            hint="Give --sensor WIDTHxHEIGHT if the sensor was larger; otherwise fetch or record the file again.",
        )
    ordered = in_order(x, y, t, on, events.sensor)
    if ordered.t[0] < -LATEST or ordered.t[-1] > LATEST:
        raise Damaged(f"found times from {ordered.t[0]} to {ordered.t[-1]} us, expected {-LATEST} to {LATEST}")
    return ordered


def _whole(name: str, values: np.ndarray, low: int, high: int, kind: type[np.generic]) -> np.ndarray:
    """A column as another type, if it has one dimension and holds whole numbers from ``low`` to ``high``."""
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise Damaged(f"found {name} of type {values.dtype} and shape {values.shape}, expected whole numbers of shape (N,)")
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
        raise damaged(f"event {i}", f"{name} = {value}", f"a whole number from {low} to {high}")
    return values.astype(kind)


# ---- what parsers share ----


def records(content: bytes, start: int, kind: DTypeLike) -> np.ndarray:
    """The bytes from ``start`` on as an array of records of one type.

    Raises:
        Damaged: there is none, or the last is cut off.
    """
    kind, length = np.dtype(kind), len(content) - start
    if length <= 0:
        raise damaged(f"byte {len(content)}", "the end of the file", "at least one event")
    if rest := length % kind.itemsize:
        raise damaged(f"byte {len(content) - rest}", f"{rest} bytes", f"records of {kind.itemsize} bytes: it is cut off")
    return np.frombuffer(content, kind, offset=start)


def joined(parts: Iterable[Columns], sensor: tuple[int, int] | None) -> Events:
    """Events whose columns were decoded in parts."""
    columns = [list(column) for column in zip(*parts, strict=True)]
    if not columns:
        raise Damaged("found no event, expected at least one")
    x, y, t, on = (np.concatenate(columns.pop(0)) for _ in range(4))  # one at a time, so that only one is there twice
    return Events(x, y, t, on, sensor)


def unwrap(stamps: np.ndarray, period: int) -> np.ndarray:
    """Times of a counter that restarts from 0 every ``period``, as times that do not.

    A step of more than half the period, up or down, is the counter passing its end, forwards or (an event that comes
    late) backwards. So an event may be late by up to half a period, and no order is made up for it.

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
    """Refuse a file of ``size`` bytes whose content would take much more memory than the file itself.

    Raises:
        Damaged: ``needed`` bytes are more than 16 times the file's size + ``room``.
    """
    if needed > TIMES * size + room:
        raise Damaged(
            f"found {what}, which take {needed / (1 << 20):,.0f} MiB,"
            f" expected at most {TIMES} times the file's {size:,} bytes + {room >> 20} MiB",
            hint="It is damaged, or made to fill the memory. If it is neither, cut it into shorter recordings.",
        )
