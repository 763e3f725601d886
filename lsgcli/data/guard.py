"""The boundary to files that others wrote: any failure of what reads them becomes an error that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsgcli.errors import ConfigError, DataError, LsgError
from lsgcli.extras import install_hint
from lsgcli.files import storage_error

HINT = "Fetch or record it again, or take it out of the folder."
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}


@contextmanager
def foreign(path: Path | str, expected: str, *, hint: str = HINT, extra: str = "") -> Iterator[None]:
    """Turn any exception inside the block into a DataError about ``path``, which should have been ``expected``.

    Args:
        extra: the extra of lsg that installs the library which reads such files, if that is not a base dependency.

    Raises:
        DataError: the block failed.
        StorageError: for want of room on the disk.
        ConfigError: a library cannot be imported, which says nothing about the file.
    """
    try:
        yield
    except (LsgError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except ImportError as error:
        raise ConfigError(f"{path}: the library that reads it cannot be imported: {error}", hint=install_hint(extra)) from error
    except OSError as error:
        if error.errno in FULL:
            raise storage_error(error, Path(path)) from error
        if error.errno in PASSING:
            advice = "The file may be whole: look at its permissions, its disk and the limits of the system, and try again."
            raise DataError(f"{path}: cannot be read: {error.strerror or error}", hint=advice) from error
        raise _damaged(path, expected, hint, error) from error
    except BaseException as error:  # a panic in a reader written in Rust is no Exception
        raise _damaged(path, expected, hint, error) from error


def _damaged(path: Path | str, expected: str, hint: str, error: BaseException) -> DataError:
    found = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: expected {expected}, found: {found}", hint=hint)
