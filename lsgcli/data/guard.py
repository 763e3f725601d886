"""The border to libraries that read files: whatever they raise becomes a DataError that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsgcli.errors import DataError, LsgError
from lsgcli.files import storage_error


@contextmanager
def foreign(
    path: Path | str, expected: str, *, hint: str = "Fetch or record it again, or take it out of the folder."
) -> Iterator[None]:
    """Turn any exception inside the block into a DataError about ``path``, which should have been ``expected``.

    Raises:
        DataError: the block failed.
        StorageError: for want of room on the disk.
    """
    try:
        yield
    except (LsgError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise storage_error(error, Path(path)) from error
        raise _damaged(path, expected, hint, error) from error
    except BaseException as error:  # a panic in a reader written in Rust is no Exception
        raise _damaged(path, expected, hint, error) from error


def _damaged(path: Path | str, expected: str, hint: str, error: BaseException) -> DataError:
    found = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path}: expected {expected}, found: {found}", hint=hint)
