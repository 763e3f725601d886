"""The border to files that others wrote: whatever goes wrong there becomes a DataError that names the file.

Nothing in a recording can be trusted: not its sizes, not its addresses. The checks here are shared by the readers.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lsgcli.errors import ConfigError, DataError, LsgError
from lsgcli.files import storage_error

HINT = "Fetch or record it again, or take it out of the folder."
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}
BASE = 16 << 20  # bytes that reading a file may take whatever its size
TIMES = 8  # and as many times its size


@contextmanager
def foreign(path: Path | str, expected: str, *, hint: str = HINT) -> Iterator[None]:
    """Turn any exception inside the block into a DataError about ``path``, which should have been ``expected``.

    Raises:
        DataError: the block failed.
        StorageError: for want of room on the disk.
        ConfigError: a library cannot be loaded, which says nothing about the file.
    """
    try:
        yield
    except (LsgError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except ImportError as error:
        raise ConfigError(
            f"{path}: the library that reads it cannot be loaded: {error}", hint="Install it, or install it again."
        ) from error
    except OSError as error:
        if error.errno in FULL:
            raise storage_error(error, Path(path)) from error
        if error.errno in PASSING:
            told = "The file may be whole: look at its permissions, its disk and the limits of the system, and try again."
            raise DataError(f"{path}: cannot be read: {error.strerror or error}", hint=told) from error
        raise _damaged(path, expected, hint, error) from error
    except BaseException as error:  # a panic in a reader written in Rust is no Exception
        raise _damaged(path, expected, hint, error) from error


def damaged(path: Path | str, where: str, found: str, expected: str, *, hint: str = HINT) -> DataError:
    """The error that says what is wrong at one place of a file, such as ``byte 8`` or ``event 3``."""
    return DataError(f"{path}: {where}: found {found}, expected {expected}", hint=hint)


def check_memory(path: Path | str, size: int, needed: int, what: str) -> None:
    """Refuse a file whose content would take much more memory than the file itself.

    Args:
        size: bytes of the file.
        needed: bytes of memory that reading it takes at its peak.
        what: what would take them, for the message.

    Raises:
        DataError: ``needed`` is over 8 times the file's size + 16 MiB.
    """
    if needed > TIMES * size + BASE:
        raise DataError(
            f"{path}: found {what}, which takes {needed / (1 << 20):,.0f} MiB to read,"
            f" expected at most {TIMES} times the file's {size:,} bytes + {BASE >> 20} MiB",
            hint="It is damaged, or made to fill the memory. If it is neither, cut it into shorter recordings.",
        )


def check_inside(
    path: Path | str, x: np.ndarray, y: np.ndarray, sensor: tuple[int, int] | None, where: Callable[[int], str]
) -> None:
    """Refuse events that lie outside the sensor.

    Args:
        x: (N,) columns, not negative.
        y: (N,) rows, not negative.
        sensor: (width, height), or None to accept anything.
        where: index of an event -> its place in the file, for the message.

    Raises:
        DataError: an event lies outside; the message names the first such.
    """
    if sensor is None or not len(x):
        return
    width, height = sensor
    if int(x.max()) < width and int(y.max()) < height:
        return
    i = int(((x >= width) | (y >= height)).argmax())
    raise damaged(
        path,
        where(i),
        f"an event at x={int(x[i])}, y={int(y[i])}",
        f"x below {width} and y below {height} of the sensor",
        hint="Give --sensor WIDTHxHEIGHT if the sensor was larger; otherwise fetch or record the file again.",
    )


def _damaged(path: Path | str, expected: str, hint: str, error: BaseException) -> DataError:
    found = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: expected {expected}, found: {found}", hint=hint)
