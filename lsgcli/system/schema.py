"""Records in JSON, possibly from untrusted files: size, depth, numbers and types are checked once, on reading.

The owner of a record declares it as a ``TypedDict``. Fields that the declaration does not contain are allowed and kept. NaN, which JSON
does not support, is read as null, as :func:`lsgcli.system.files.finite` writes it.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lsgcli.errors import ConfigError, LsgError
from lsgcli.system import files

T = TypeVar("T")
Record = dict[str, Any]  # values of JSON types by name
LARGEST = 1 << 23  # bytes of a record; a value in memory takes up to 25 times as much
LARGEST_LOG = 1 << 26  # bytes of a JSONL file
DEEPEST = 32  # lists and objects inside each other
LARGEST_TOML, DOTS = 1 << 17, 50  # characters of a TOML file; dots in a line of it
LONG = 200  # characters of a value in a message
BOUND = 1e100  # of absolute values
BOUND_OF_INTEGERS = 10**20  # a little more than 64 bits
HINT = "Restore the file, or remove it."


def read(path: Path, kind: type[T], error: type[LsgError], *, hint: str = HINT) -> T:
    """The record in a file.

    Args:
        kind: expected type: a TypedDict, or any other type of JSON values, such as ``dict[str, int]``.
        error: class of the error to raise.

    Raises:
        error: the file does not exist, is not a regular file, is too large, or :func:`decode` raises it.
    """
    return decode(text(path, LARGEST, error, path, hint=hint), kind, path, error, hint=hint)


def read_lines(path: Path, kind: Any = dict) -> list[Any]:
    """The records in the complete lines of a JSONL file; none if it does not exist. ``kind`` as for :func:`read`.

    An incomplete last line, written by a killed process, is skipped.

    Raises:
        ConfigError: as :func:`read`.
    """
    return [decode(line.decode(), kind, f"{path}: line {number}", ConfigError) for number, line in _lines(path)]


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
        with _reading(path, LARGEST_LOG, ConfigError, path, HINT) as lines:
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    yield number, line


def read_last_line(path: Path, kind: Any) -> Any | None:
    """The record in the last complete line of a JSONL file, without decoding the others; None if there is none. ``kind`` and errors as for :func:`read_lines`."""
    last = b""
    for _, line in _lines(path):
        last = line
    return decode(last.decode(errors="replace"), kind, f"{path}: last line", ConfigError) if last else None


def decode(text: str, kind: type[T], where: object, error: type[LsgError], *, hint: str = HINT) -> T:
    """The record in a text, from ``where``. Other arguments as for :func:`read`.

    Raises:
        error: it is not JSON, too deep, contains a number that is too large, or is not of this kind.
    """
    try:
        if len(text) > LARGEST:
            raise _LimitError(f"found {len(text):,} characters, expected at most {LARGEST:,}")
        value = json.loads(text, parse_constant=lambda name: None)
        _check_limits(value, DEEPEST)
    except _LimitError as problem:
        raise error(f"{where}: {problem}", hint) from None
    except RecursionError:
        raise error(f"{where}: found more than {DEEPEST} levels of lists and objects, expected fewer", hint) from None
    except ValueError as problem:
        raise error(f"{where}: not valid JSON: {problem}", hint) from None
    return check(value, kind, where, error, hint=hint)


def check(value: Any, kind: type[T], where: object, error: type[LsgError], *, hint: str = HINT) -> T:
    """Return ``value`` after checking that it is of this kind. Arguments and errors as for :func:`decode`."""
    import msgspec  # 25 ms

    try:
        try:
            msgspec.convert(value, kind)
        except UnicodeEncodeError:  # file names need not be UTF-8
            msgspec.convert(_encodable(value), kind)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {_described(str(problem).replace('`', ''), value)}", hint) from None
    return value  # type: ignore[no-any-return]


def text(path: Path, largest: int, error: type[LsgError], where: object, *, hint: str = HINT) -> str:
    """The text of a regular file, called ``where`` in messages.

    Args:
        largest: number of bytes beyond which the file is not read.

    Raises:
        error: it does not exist, cannot be read as text, is not a regular file, or is too large.
    """
    with _reading(path, largest, error, where, hint) as stream:
        return stream.read(largest).decode()


def toml(text: str, where: object, hint: str) -> dict[str, Any]:
    """The content of a TOML file from ``where``.

    Raises:
        ConfigError: it is not TOML, too deep, or contains an integer that is too large.
    """
    import tomllib

    try:
        if len(text) > LARGEST_TOML:
            raise _LimitError(f"found {len(text):,} characters, expected at most {LARGEST_TOML:,}")
        if max(line.count(".") for line in text.split("\n")) > DOTS:  # keys of many parts take tomllib quadratic time
            raise _LimitError(f"found a line of more than {DOTS} dots, expected fewer")
        content = tomllib.loads(text)
        repr(content)  # fails for an integer of more than 4,300 digits, which no message could show
    except RecursionError:
        raise ConfigError(f"{where}: found too many lists and tables inside each other, expected fewer", hint) from None
    except ValueError as problem:
        raise ConfigError(f"{where}: not valid TOML: {str(problem)[:LONG]}", hint) from None
    return content


@contextlib.contextmanager
def _reading(path: Path, largest: int, error: type[LsgError], where: object, hint: str) -> Iterator[BinaryIO]:
    """Context of an open file; arguments as for :func:`text`."""
    try:
        with files.open_regular(path) as stream:
            if (size := os.fstat(stream.fileno()).st_size) > largest:
                raise error(f"{where}: found {size:,} bytes, expected at most {largest:,}", hint)
            yield stream
    except OSError as reason:
        raise error(f"{where}: {reason.strerror or reason}", hint) from reason
    except ValueError as reason:  # a NUL in the path, or invalid UTF-8 in the file
        raise error(f"{where}: cannot be read as text: {reason}", hint) from reason


class _LimitError(ValueError):
    """A number or text beyond the bounds."""


def _check_limits(value: Any, levels: int) -> None:
    """Raise a _LimitError for a number beyond the bounds, and a RecursionError for more levels of lists and objects."""
    if isinstance(value, dict | list):
        if not levels:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check_limits(item, levels - 1)
    elif isinstance(value, int | float):
        bound = BOUND_OF_INTEGERS if isinstance(value, int) else BOUND
        if not -bound < value < bound:
            raise _LimitError(f"found the number {repr(value)[:30]}, expected an absolute value below {bound:g}")


def _encodable(value: Any) -> Any:
    """The value with ? for each character that UTF-8 cannot encode."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _described(problem: str, value: Any) -> str:
    """A message of msgspec, such as "Expected int, got str - at $.a[0]", in the wording of lsg's messages."""
    words, _, path = problem.partition(" - at ")
    field = path.removeprefix("key in ").removeprefix("$").removeprefix(".")
    name = f"{field}: " if field else ""
    if missing := re.fullmatch("Object missing required field (.*)", words):
        return f"{name}found no {missing[1]}, expected one"
    if words.startswith("Invalid enum value"):
        words = "Expected one of the values that lsg writes"
    expected, _, got = words.removeprefix("Expected ").partition(", got ")
    for key, index in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", field):
        try:
            value = value[key or int(index)]
        except (LookupError, TypeError, ValueError):  # [...] stands for any key
            return f"{name}found {got or 'another value'}, expected {expected}"
    return f"{name}found {shown(value)}, expected {expected}"


def shown(value: Any) -> str:
    """A value for a message, shortened if it is long; of lists and objects only what they are."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}..."
