"""Writing files so that a reader sees the old one or the new one, whole, and never a part."""

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
PARTIAL = ".partial-"  # in the name of a file that is being written
ANOTHER = "Choose another name."
# How the content of a file begins, by the ending of its name.
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
    """Check that a command may write the file or folder that the user named, before the command does its work.

    An output never replaces an input of the command, a checkpoint, a file of a run, or a file of another kind. It replaces any
    other file only with ``force``. Files that are already in an output folder stay.

    Args:
        target: the path the user gave.
        option: how the user gave it, for messages: ``--html``.
        suffixes: the endings a file's name may have. For a folder, the endings of the files that the command writes there, each of
            which counts as an output if it exists; with none, the folder has to be new or empty.
        folder: the output is a folder.
        inputs: files and folders that the command reads.
        force: ``--force`` was given.

    Raises:
        ConfigError: ``target`` may not be replaced, or its name does not fit.
        StorageError: its parent does not exist, or ``target`` cannot be looked at.
    """
    name = f"{option} {target}"
    if suffixes and not folder and target.suffix.lower() not in suffixes:
        found = repr(target.suffix) if target.suffix else "no ending"
        raise ConfigError(f"{name}: found {found}, expected a name that ends in {' or '.join(suffixes)}")
    if not target.absolute().parent.is_dir():
        raise StorageError(f"{name}: no such folder: {target.parent}", hint="Create it first.")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.is_symlink():
            raise ConfigError(f"{name}: found a symbolic link to nothing, expected a {_kind(folder)}", hint=ANOTHER) from None
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
        raise ConfigError(f"{name}: the folder has files in it, expected a new or an empty folder", hint=ANOTHER)
    else:
        for file in sorted(file for file in target.iterdir() if file.suffix.lower() in suffixes):
            check_output(file, option, suffixes=suffixes, inputs=inputs, force=force)


def _check_unprotected(target: Path, name: str, inputs: Iterable[Path]) -> None:
    """Refuse what no option lets a command replace, whether the file is there already or not.

    Raises:
        ConfigError: an input, a checkpoint or a file of a run.
    """
    from lsgcli import rundir  # which writes its files with this module

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
    """Refuse to replace a file whose content is not what the ending of its name says.

    Raises:
        ConfigError: it is of another kind; an empty file is of any kind.
    """
    begins = _beginning(target, 64)
    if begins and not re.match(BEGINNINGS.get(target.suffix.lower(), b""), begins, re.DOTALL):
        raise ConfigError(
            f"{name}: the file that exists there is not a {target.suffix} file, and is not replaced", hint=ANOTHER
        )


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a safetensors file with the metadata of lsg, whole or damaged."""
    length = int.from_bytes(_beginning(path, 8), "little")
    header = _beginning(path, 8 + min(length, 1 << 24))[8:]
    return header.startswith(b"{") and b'"lsg.format_version"' in header


def _beginning(path: Path, size: int) -> bytes:
    """The first bytes of a regular file, as many as there are; of anything else, none."""
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
    """A temporary path beside ``target``, which takes its place, synced to disk, when the block ends without an error.

    Raises:
        StorageError: the folder or the disk does not allow it; ``target`` is as it was.
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
        with contextlib.suppress(OSError):  # what kept it from being written is what there is to tell
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def creating_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target``, which takes its place, its files synced, when the block ends without an error.

    Raises:
        StorageError: the place or the disk does not allow it, or ``target`` is there and not an empty folder.
    """
    temporary = target.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{target.name}")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _finish(file)
        sync_folder(temporary)
        os.rename(temporary, target)  # refuses what is there already, but for an empty folder
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file whole.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    write_text(target, json.dumps(finite(value), indent=2) + "\n")


def append_json_line(target: Path, value: Any) -> None:
    """Add one line to a JSONL file."""
    try:
        with open(target, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite(value)) + "\n")
            stream.flush()
    except OSError as error:
        raise storage_error(error, target) from error


def read_json_lines(source: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; an unfinished last line, left by a killed process, is passed over."""
    if not source.exists():
        return []
    lines = source.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def finite(value: Any) -> Any:
    """``value`` as JSON can hold it: NaN and infinity, which it does not have, become None."""
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
    """Hold the lock file ``path``, waiting for another process that has it; the system drops the lock of one that is killed.

    Where the file system has no locks, nothing is locked.

    Args:
        waiting: warning to log while another process holds it.
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
            break  # otherwise the process that had it has removed the file
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def making_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; those that are still empty when the block ends are removed again.

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
    """Remove what a killed process left half-written in ``folder``."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        leftover.unlink(missing_ok=True)


def storage_error(error: OSError, target: Path) -> StorageError:
    """The StorageError that says why ``target`` could not be written."""
    return StorageError(
        f"{target}: cannot be written: {error.strerror or error}",
        hint="Choose a folder that can be written and has room.",
    )


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a crash of the machine."""
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _finish(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
    # A library may have made it readable for the owner alone: follow the umask, as any new file does.
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
