"""Columns of events that a user stored as arrays of numbers: are they what events can be made of?"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lsgcli.errors import DataError

KINDS = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": bool}
LATEST = 1 << 62  # microseconds, either way from 0: so no span is too long for 64 bits
SIDE = 1 << 16


def fill(path: Path, name: str, parts: Iterable[np.ndarray], count: int, hint: str) -> np.ndarray:
    """One column from its parts, checked.

    Args:
        name: x, y, t or p, for the check and for messages.
        parts: arrays of ``count`` numbers in all; whole numbers, though floating-point types may hold them.

    Returns:
        (count,) uint16 for x and y, int64 for t (microseconds), bool for p (True for ON: above 0).

    Raises:
        DataError: a number is no whole number, or too small or too large; naming the event.
    """
    column = np.empty(count, KINDS[name])
    done = 0
    for part in parts:
        _check(path, name, part, done, hint)
        column[done : done + len(part)] = part > 0 if name == "p" else part
        done += len(part)
    if done != count:
        raise DataError(f"{path}: array {name}: found {done} numbers, expected {count}: it is cut off", hint=hint)
    return column


def sensor(path: Path, value: np.ndarray, hint: str) -> tuple[int, int]:
    """Width and height from an array ``sensor``.

    Raises:
        DataError: it is something else.
    """
    if value.size != 2 or value.dtype.kind not in "iuf" or not all(1 <= side <= SIDE and side % 1 == 0 for side in value.flat):
        raise DataError(f"{path}: array sensor is {value!r:.200}, expected width and height", hint=hint)
    width, height = value.flat
    return int(width), int(height)


def _check(path: Path, name: str, part: np.ndarray, done: int, hint: str) -> None:
    kinds = "iubf" if name == "p" else "iuf"
    if part.dtype.kind not in kinds:
        raise DataError(f"{path}: array {name} is of type {part.dtype}, expected whole numbers", hint=hint)
    if not len(part) or part.dtype.kind == "b":
        return
    low, high = {"x": (0, SIDE - 1), "y": (0, SIDE - 1), "t": (-LATEST, LATEST), "p": (-LATEST, LATEST)}[name]
    if part.dtype.kind == "f":
        # NaN compares as False: it must fail, not pass.
        right = (part >= low) & (part <= high)
        right[right] = part[right] % 1 == 0
        if right.all():
            return
        i = int((~right).argmax())
    elif low <= int(part.min()) and int(part.max()) <= high:
        return
    else:
        i = int(part.argmin()) if int(part.min()) < low else int(part.argmax())
    raise DataError(
        f"{path}: event {done + i}: found {name} = {part[i]}, expected a whole number from {low} to {high}", hint=hint
    )
