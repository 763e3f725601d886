"""Writing files so that a reader sees the old one or the new one, whole, and never a part."""

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsgcli.errors import StorageError

PARTIAL = ".partial-"  # in the name of a file that is being written


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
