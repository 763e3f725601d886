"""Helpers of parsers."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import DTypeLike

from lsgcli.data.events import Events, joined
from lsgcli.data.guard import Damaged, damaged

HEADER = 1 << 16  # bytes of the longest header of a stream
TIMES, ROOM = 16, 64 << 20


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
    rest, at, begun, empty = b"", 0, False, True
    for chunk in chunks:
        rest += chunk
        start = 0 if begun else header(rest)
        if start is None:
            if len(rest) > HEADER:
                raise damaged(f"byte {HEADER}", "more header", "events")
            continue
        begun, count = True, (len(rest) - start) // kind.itemsize
        if count:
            empty = False
            yield at + start, np.frombuffer(rest, kind, count, start)
        end = start + count * kind.itemsize
        rest, at = rest[end:], at + end
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
