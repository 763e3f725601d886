"""Conversion of any failure while reading an external file to an error that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsgcli.errors import ConfigError, DataError, LsgError, install_hint
from lsgcli.system.files import NotRegularError, storage_error
from lsgcli.system.memory import is_out_of_memory

HINT = "Download or record it again, or remove it from the folder."
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}


class Damaged(ValueError):
    """Invalid content of a file; :func:`foreign` adds the name of the file and, if there is none, a hint."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class MissingLibrary(ConfigError):
    """The library that reads a file cannot be imported; other files may be readable."""

    def of_one_file(self) -> DataError:
        """The same as the error of one file among others, with the command that installs the library."""
        return DataError(f"{self.message}. {self.hint}")


def damaged(where: str, found: str, expected: str) -> Damaged:
    """Invalid content at a position, such as ``byte 8`` or ``event 3``."""
    return Damaged(f"{where}: found {found}, expected {expected}")


@contextmanager
def readable(path: Path | str, hint: str = "Check its permissions.") -> Iterator[None]:
    """Convert an OSError in the block to a DataError about ``path``."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint) from error


@contextmanager
def foreign(
    path: Path | str, expected: str, *, hint: str = HINT, extra: str = "", kind: type[LsgError] = DataError
) -> Iterator[None]:
    """Convert any exception in the block to an error about ``path``, with ``expected`` as description of a valid file.

    Errors due to insufficient memory are not converted.

    Args:
        extra: extra of lsg that installs the library required to read the file, if not a base dependency.
        kind: class of the error.

    Raises:
        kind: the block failed.
        StorageError: not enough disk space.
        MissingLibrary: a library cannot be imported.
    """
    try:
        yield
    except (LsgError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except ImportError as error:
        message = f"{path}: the library that reads it cannot be imported: {error}"
        raise MissingLibrary(message, install_hint(extra)) from error
    except (Damaged, NotRegularError) as error:
        raise kind(f"{path}: {error}", error.hint or hint) from error
    except BaseException as error:  # panics of readers written in Rust are not Exceptions
        if is_out_of_memory(error):
            raise
        number = getattr(error, "errno", None)
        if isinstance(error, OSError) and number in FULL:
            raise storage_error(error, Path(path)) from error
        if isinstance(error, OSError) and number in PASSING:
            advice = "The file may be intact: check its permissions, the disk and system limits, and try again."
            raise kind(f"{path}: cannot be read: {error.strerror or error}", advice) from error
        found = " ".join(str(error).split()) or type(error).__name__
        raise kind(f"{path}: expected {expected}, found: {found}", hint) from error
