"""A file on its way: what has arrived of it, locked by the process that fetches it."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsgcli.errors import StorageError
from lsgcli.files import sync_folder

log = logging.getLogger("lsg")


class Part:
    """``<name>.part`` beside ``target``, open for appending.

    Attributes:
        target: where it goes when it is whole.
        path: where it is now.
        size: bytes that have arrived.
        waited: another process had it, and has let go of it.
    """

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.waited = False
        try:
            self._open()
        except OSError as error:
            raise _storage_error(error, self.path) from error
        self.size = os.fstat(self._handle).st_size

    @classmethod
    @contextlib.contextmanager
    def claimed(cls, target: Path) -> Iterator["Part"]:
        """The part, for this process alone; it stays where it is, for the next try, unless it is empty.

        Raises:
            StorageError: it cannot be written.
        """
        part = cls(target)
        try:
            yield part
        finally:
            if part.size == 0 and part.path.exists():
                part._forget()
                part.path.unlink(missing_ok=True)
            os.close(part._handle)

    def _open(self) -> None:
        while True:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self.waited |= _lock(self._handle, self.path)
            # The one that we waited for may have renamed it: then this is no longer the file of that name.
            if self.path.exists() and os.path.samestat(os.fstat(self._handle), os.stat(self.path)):
                return
            os.close(self._handle)

    def validator(self, url: str) -> str | None:
        """The server's name for the version that the part was fetched of, if it came from ``url``."""
        try:
            note: Any = json.loads(self.note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url"] == url and note["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restart(self, url: str = "", validator: str | None = None) -> None:
        """Forget what has arrived; what comes next is the version ``validator`` from ``url``."""
        try:
            os.ftruncate(self._handle, 0)
            self.size = 0
            self._forget()
            if url:
                self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        except OSError as error:
            raise _storage_error(error, self.path) from error

    def write(self, chunk: bytes) -> None:
        """Append; a system call, so that a process that is killed loses nothing."""
        view = memoryview(chunk)
        while view:
            try:
                count = os.write(self._handle, view)
            except OSError as error:
                raise _storage_error(error, self.path) from error
            self.size += count
            view = view[count:]

    def publish(self) -> None:
        """Give it its final name, once it is on the disk."""
        try:
            os.fsync(self._handle)
            os.replace(self.path, self.target)
            self._forget()
        except OSError as error:
            raise _storage_error(error, self.target) from error
        sync_folder(self.target.parent)

    def _forget(self) -> None:
        self.note.unlink(missing_ok=True)


def _lock(handle: int, path: Path) -> bool:
    """Lock it, for as long as this process has it open; True if another process had to let go of it first."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        log.warning("%s: another process is fetching it; waiting", path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        return True
    except OSError:  # a file system without locks
        return False


def _storage_error(error: OSError, path: Path) -> StorageError:
    return StorageError(
        f"{path}: cannot be written: {error.strerror or error}",
        hint="Make room, or give --data-dir a folder on another disk; what has arrived is kept.",
    )
