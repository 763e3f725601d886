"""Conversion of any failure while reading an external file to an error that names the file, and files that are not checkpoints."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsgcli import registry
from lsgcli.errors import CheckpointError, ConfigError, DataError, LsgError, install_hint
from lsgcli.system.files import NotRegularError, storage_error
from lsgcli.system.memory import is_out_of_memory

HINT = "Download or record it again, or remove it from the folder."
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
TRAIN = "`lsg train` prints the path of the checkpoint it wrote; commands take it before other files."
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}


class Damaged(ValueError):
    """Invalid content of a file; :func:`foreign` adds the name of the file and, if there is none, a hint."""

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class MissingLibrary(ConfigError):
    """The library that reads a file cannot be imported; other files may be readable. The message says how to install it."""


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
        problem = f"{path}: the library that reads it cannot be imported: {error}"
        raise MissingLibrary(f"{problem}. {install_hint(extra)}") from error
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


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """What is raised for a checkpoint that cannot be opened."""
    return CheckpointError(f"{path}: {error.strerror}", TRAIN)


def other_kind(path: Path) -> tuple[str, str] | None:
    """The type of a file given as a checkpoint, and a hint; None if it starts like a safetensors file, complete or truncated."""
    with open(path, "rb") as stream:
        head = stream.read(9)  # 8 bytes with the length of a safetensors header, and the first of the header
    suffix = path.suffix.lower()
    if head[8:] == b"{" or suffix == ".safetensors":
        return None
    for form in registry.every("format").values():
        if suffix and suffix == form.suffix:
            return f"{form.kind} ({suffix})", form.hint
    if suffix in PICKLED:
        build = "lsgcli.build(...).load_state_dict(torch.load(FILE, weights_only=True))"
        return f"a {suffix} file", f"lsg reads no pickled weights. In Python: {build}."
    best = path.parent / "best.safetensors"
    found = f"a file that starts with {head!r}" if head else "an empty file"
    return found, f"Try {best}." if best.exists() else TRAIN
