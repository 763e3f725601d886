"""Atomic writes: a reader sees either the complete old file or the complete new one."""

import contextlib
import fcntl
import json
import logging
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lsgcli.errors import ConfigError, StorageError

log = logging.getLogger("lsg")
PARTIAL = ".partial-"  # prefix of temporary files
ANOTHER = "Choose another name."
EXPORTED = rb"\"export\": {\"format\": \""  # in the header of a safetensors file that `lsg export` wrote
# Patterns for the first bytes of a file, by suffix.
BEGINNINGS = {
    ".html": rb"\s*<",
    ".svg": rb"\s*<",
    ".png": rb"\x89PNG",
    ".safetensors": rb".{8}\s*\{",
    ".pt2": rb"PK\x03\x04",
    ".onnx": rb"\x08",
    ".nir": rb"\x89HDF",
}


def check_output(
    target: Path,
    option: str,
    *,
    suffixes: tuple[str, ...] = (),
    folder: bool = False,
    inputs: Iterable[Path] = (),
    force: bool = False,
) -> None:
    """Check that a command may write a file or folder given by the user, before the command starts its work.

    An output never replaces an input of the command, a checkpoint, a file of a run, or a file of another kind. It replaces any
    other file only with ``force``. Other files in an output folder are kept.

    Args:
        target: the path given by the user.
        option: the option it was given with, for messages, such as ``--html``.
        suffixes: allowed suffixes of a file. For a folder, suffixes of the files that the command writes, each of which is checked if
            it exists; without suffixes, the folder must be new or empty.
        folder: whether the output is a folder.
        inputs: files and folders that the command reads.
        force: whether ``--force`` was given.

    Raises:
        ConfigError: ``target`` must not be replaced, or has another suffix.
        StorageError: its parent does not exist, or ``target`` is not accessible.
    """
    name = f"{option} {target}"
    if suffixes and not folder and target.suffix.lower() not in suffixes:
        found = repr(target.suffix) if target.suffix else "no suffix"
        raise ConfigError(f"{name}: found {found}, expected a name with suffix {' or '.join(suffixes)}")
    if not target.absolute().parent.is_dir():
        raise StorageError(f"{name}: no such folder: {target.parent}", hint="Create it first.")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.is_symlink():
            raise ConfigError(f"{name}: found a broken symbolic link, expected a {_kind(folder)}", hint=ANOTHER) from None
        mode = None
    except OSError as error:  # a loop of symbolic links, a name that is too long
        raise StorageError(f"{name}: cannot be written: {error.strerror}", hint=ANOTHER) from error
    _check_unprotected(target, name, inputs)
    if mode is None:
        return
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise ConfigError(f"{name}: found {_described(mode)}, expected a {_kind(folder)}", hint=ANOTHER)
    if not folder:
        _check_kind(target, name)
        if not force:
            raise ConfigError(f"{name}: the file exists", hint="Add --force to replace it, or choose another name.")
    elif not suffixes and any(target.iterdir()):
        raise ConfigError(f"{name}: the folder contains files, expected a new or empty folder", hint=ANOTHER)
    else:
        for file in sorted(file for file in target.iterdir() if file.suffix.lower() in suffixes):
            check_output(file, option, suffixes=suffixes, inputs=inputs, force=force)


def _check_unprotected(target: Path, name: str, inputs: Iterable[Path]) -> None:
    """Check that ``target`` is not protected from replacement, whether it exists or not.

    Raises:
        ConfigError: it is an input, a checkpoint or a file of a run.
    """
    from lsgcli import rundir  # imports this module

    resolved = Path(os.path.realpath(target))
    for source in inputs:
        if not source.exists():
            continue
        if target.exists() and (os.path.samefile(target, source) or resolved.is_relative_to(os.path.realpath(source))):
            raise ConfigError(f"{name}: is {'in ' * source.is_dir()}{source}, which the command reads", hint=ANOTHER)
    if resolved.name in rundir.FILES and rundir.is_run(resolved.parent):
        raise ConfigError(f"{name}: belongs to the run in {target.parent}, which no output replaces", hint=ANOTHER)
    if is_checkpoint(target):
        raise ConfigError(f"{name}: is a checkpoint, which no output replaces", hint="Choose another name, or delete it first.")


def _check_kind(target: Path, name: str) -> None:
    """Check that the content of an existing file matches its suffix, so that only files of the same kind are replaced.

    Raises:
        ConfigError: it is of another kind; an empty file matches any kind.
    """
    begins = _beginning(target, 64)
    if begins and not re.match(BEGINNINGS.get(target.suffix.lower(), b""), begins, re.DOTALL):
        raise ConfigError(f"{name}: the existing file is not a {target.suffix} file and is not replaced", hint=ANOTHER)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint of a training, even if damaged; an export is not one, as it can be made again."""
    length = int.from_bytes(_beginning(path, 8), "little")
    header = _beginning(path, 8 + min(length, 1 << 24))[8:]
    return header.startswith(b"{") and b'"lsg.format_version"' in header and EXPORTED not in header


def _beginning(path: Path, size: int) -> bytes:
    """Up to ``size`` first bytes of a regular file; empty for anything else."""
    try:
        if not path.is_file():
            return b""
        with open(path, "rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def _kind(folder: bool) -> str:
    return "folder" if folder else "file"


def _described(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path that is synced to disk and renamed to ``target`` when the block ends without an error.

    Raises:
        StorageError: it cannot be written; ``target`` is unchanged.
    """
    temporary = target.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        _finish(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        with contextlib.suppress(OSError):  # report the original error
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def creating_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is synced to disk and renamed to ``target`` when the block ends without an error.

    Raises:
        StorageError: it cannot be written, or ``target`` exists and is not an empty folder.
    """
    temporary = target.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{target.name}")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _finish(file)
        sync_folder(temporary)
        os.rename(temporary, target)  # fails if target exists and is not an empty folder
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    write_text(target, json.dumps(finite(value), indent=2) + "\n")


def append_json_line(target: Path, value: Any) -> None:
    """Append a line to a JSONL file."""
    try:
        with open(target, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite(value)) + "\n")
            stream.flush()
    except OSError as error:
        raise storage_error(error, target) from error


def read_json_lines(source: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file; an incomplete last line, written by a killed process, is skipped."""
    if not source.exists():
        return []
    lines = source.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def finite(value: Any) -> Any:
    """``value`` with NaN and infinity, which JSON does not support, replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock on the file ``path``, after waiting for other processes; the system releases the lock of a killed process.

    On file systems without locks, it does nothing.

    Args:
        waiting: warning to log while another process holds the lock.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise storage_error(error, path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s", waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            break
        if path.exists() and os.path.samestat(os.fstat(handle), os.stat(path)):
            break  # otherwise the previous owner has removed the file
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def making_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents, and remove those that are still empty when the block ends.

    Raises:
        StorageError: it cannot be created.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for one in made:
                one.rmdir()


def remove_partial(folder: Path) -> None:
    """Remove temporary files of killed processes from ``folder``."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        leftover.unlink(missing_ok=True)


def storage_error(error: OSError, target: Path) -> StorageError:
    """A StorageError with the reason why ``target`` could not be written."""
    return StorageError(
        f"{target}: cannot be written: {error.strerror or error}",
        hint="Choose a writable folder with enough free space.",
    )


def sync_folder(folder: Path) -> None:
    """Sync ``folder`` to disk, so that a rename in it survives a system crash."""
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _finish(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
    # Some libraries create files readable only by the owner; apply the umask as for other files.
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
