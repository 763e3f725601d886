"""The border to libraries that read files: whatever they raise becomes a DataError that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsgcli.errors import DataError, LsgError


@contextmanager
def foreign(
    path: Path | str, expected: str, *, hint: str = "Fetch or record it again, or take it out of the folder."
) -> Iterator[None]:
    """Turn any exception inside the block into a DataError about ``path``, which should have been ``expected``.

    Raises:
        DataError: the block failed.
    """
    try:
        yield
    except (LsgError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in a reader written in Rust is no Exception
        found = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: expected {expected}, found: {found}", hint=hint) from error
