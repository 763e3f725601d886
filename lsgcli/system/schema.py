"""Records in JSON, possibly from untrusted files: size, depth, numbers and types are checked once, on reading.

The owner of a record declares it as a ``TypedDict``. Fields that the declaration does not contain are allowed and kept. NaN, which JSON
does not support, is read as null, as :func:`lsgcli.system.files.finite` writes it.
"""

import json
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lsgcli.errors import ConfigError, LsgError
from lsgcli.system import files

T = TypeVar("T")
ErrorClass = type[LsgError]
Record = dict[str, Any]  # values of JSON types by name
LARGEST = 1 << 23  # characters of a record; a value in memory takes up to 25 times as much
LARGEST_LOG = 1 << 26  # bytes of a JSONL file
DEEPEST = 32  # lists and objects inside each other
TOO_DEEP = f"found more than {DEEPEST} levels of lists and objects, expected fewer"
LARGEST_TOML, DOTS = 1 << 17, 50  # characters of a TOML file; dots in a line of it
LONG = 200  # characters of a value in a message
BOUND = 1e100  # of absolute values
BOUND_OF_INTEGERS = 10**20  # a little more than 64 bits
HINT = "Correct the file, restore it, or remove it."


def read(path: Path, kind: type[T], error: ErrorClass) -> T:
    """The record in a file.

    Args:
        kind: expected type: a TypedDict, or any other type of JSON values, such as ``dict[str, int]``.
        error: class of the error to raise.

    Raises:
        error: the file does not exist, is not a regular file, is too large, or :func:`decode` raises it.
    """
    return decode(text(path, LARGEST, error), kind, path, error)


def read_lines(path: Path, kind: Any = dict, last: int | None = None) -> list[Any]:
    """The records in the complete lines of a JSONL file; none if it does not exist. ``kind`` as for :func:`read`.

    An incomplete last line, written by a killed process, is skipped.

    Args:
        last: number of lines at the end of the file; the others are not decoded. Default: all.

    Raises:
        ConfigError: as :func:`read`.
    """
    lines = deque(_lines(path), last)
    return [decode(line.decode(errors="replace"), kind, f"{path}: line {number}", ConfigError) for number, line in lines]


def stream(path: Path, kind: type[T]) -> Iterator[T]:
    """As :func:`read_lines`, one record at a time, without the fields that ``kind`` does not contain: fast, and with little memory."""
    import msgspec

    decoder = msgspec.json.Decoder(kind)
    for number, line in _lines(path):
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):  # NaN, or a problem to describe
            yield decode(line.decode(errors="replace"), kind, f"{path}: line {number}", ConfigError)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each complete line of a file; none if it does not exist."""
    if os.path.lexists(path):
        with _reading(path, LARGEST_LOG, ConfigError) as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield number, line


def decode(text: str, kind: type[T], where: object, error: ErrorClass) -> T:
    """The record in a text, from ``where``. Other arguments as for :func:`read`.

    Raises:
        error: it is too large, not JSON, too deep, contains a number that is too large, or is not of this kind.
    """
    if len(text) > LARGEST:
        raise error(f"{where}: found {len(text):,} characters, expected at most {LARGEST:,}", HINT)
    try:
        value = json.loads(text, parse_constant=lambda name: None)
        problem = _beyond(value, DEEPEST)
    except RecursionError:
        problem = TOO_DEEP
    except ValueError as reason:
        problem = f"not valid JSON: {reason}"
    if problem:
        raise error(f"{where}: {problem}", HINT)
    return check(value, kind, where, error)


def check(value: Any, kind: type[T], where: object, error: ErrorClass) -> T:
    """Return ``value`` after checking that it is of this kind. Arguments and errors as for :func:`decode`."""
    import msgspec  # 25 ms

    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as problem:
        raise error(f"{where}: {_described(str(problem))}", HINT) from None
    return value  # type: ignore[no-any-return]


def text(path: Path, largest: int, error: ErrorClass) -> str:
    """The text of a regular file.

    Args:
        largest: number of bytes beyond which the file is not read.

    Raises:
        error: it does not exist, cannot be read as text, is not a regular file, or is too large.
    """
    with _reading(path, largest, error) as stream:
        return stream.read(largest).decode()


def toml(text: str, where: object) -> Record:
    """The content of a TOML file from ``where``.

    Raises:
        ConfigError: it is not TOML, too deep, or contains an integer that is too large.
    """
    import tomllib

    try:
        if len(text) > LARGEST_TOML:
            raise ValueError(f"found {len(text):,} characters, expected at most {LARGEST_TOML:,}")
        if max(line.count(".") for line in text.split("\n")) > DOTS:  # keys of many parts take tomllib quadratic time
            raise ValueError(f"found a line of more than {DOTS} dots, expected fewer")
        content = tomllib.loads(text)
        repr(content)  # fails for an integer of more than 4,300 digits, which no message could show
    except RecursionError:
        raise ConfigError(f"{where}: found too many lists and tables inside each other, expected fewer", HINT) from None
    except ValueError as problem:
        raise ConfigError(f"{where}: not valid TOML: {str(problem)[:LONG]}", HINT) from None
    return content


@contextmanager
def _reading(path: Path, largest: int, error: ErrorClass) -> Iterator[BinaryIO]:
    """Context of an open file; arguments as for :func:`text`."""
    try:
        with files.open_regular(path) as stream:
            if (size := os.fstat(stream.fileno()).st_size) > largest:
                raise error(f"{path}: found {size:,} bytes, expected at most {largest:,}", HINT)
            yield stream
    except OSError as reason:
        raise error(f"{path}: {reason.strerror or reason}", "Check the path and its permissions.") from reason
    except ValueError as reason:  # a NUL in the path, or invalid UTF-8 in the file
        raise error(f"{path}: cannot be read as text: {reason}", HINT) from reason


def _beyond(value: Any, levels: int) -> str:
    """What is beyond the bounds of a value: the levels of lists and objects, or a number; empty if nothing is."""
    if isinstance(value, dict | list):
        if not levels:
            return TOO_DEEP
        for item in value.values() if isinstance(value, dict) else value:
            if problem := _beyond(item, levels - 1):
                return problem
    elif isinstance(value, int | float):
        bound = BOUND_OF_INTEGERS if isinstance(value, int) else BOUND
        if not -bound < value < bound:
            return f"found the number {repr(value)[:30]}, expected an absolute value below {bound:g}"
    return ""


def _described(problem: str) -> str:
    """A message of msgspec, such as "Expected `int`, got `str` - at `$.a[0]`", in the wording of lsg's messages."""
    words, *path = problem.replace("`", "").replace("Object missing required field", "found no").rsplit(" - at ", 1)
    if words.startswith("Expected "):
        expected, _, found = words.removeprefix("Expected ").partition(", got ")
        words = f"found {found or 'another value'}, expected {expected}"
    elif words.startswith("Invalid enum value "):  # which contains the whole of it
        words = f"found {words.removeprefix('Invalid enum value '):.{LONG}}, expected one of the values that lsg writes"
    for place in path:
        field = place.removeprefix("key in ").removeprefix("$").removeprefix(".")
        words = f"{field:.{LONG}}: {words}" if field else words
    return words


def shown(value: Any) -> str:
    """A value for a message, shortened if it is long; of lists and objects only what they are."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}..."
