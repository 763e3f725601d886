"""Cache of prepared samples: one ``.npy`` file per data set, split, and digest of all settings and sources.

A file is written under a unique temporary name and renamed when it is complete and synced, so a killed preparation never looks
finished, and concurrent preparations do not conflict. Changed settings or sources give another digest.
"""

import hashlib
import json
import logging
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config import RunConfig
from lsgcli.files import sync_folder

log = logging.getLogger("lsg")
VERSION = 2  # of the format of the cache and its notes


def folder(config: RunConfig) -> Path:
    """--cache-dir, or ``lsg`` in the user's cache directory."""
    if config.cache_dir:
        return Path(config.cache_dir)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lsg"


def digest(settings: Mapping[str, Any]) -> str:
    """Digest of settings of JSON types, independent of their order."""
    text = json.dumps({**settings, "cache_version": VERSION}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def read(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray | None:
    """The cached array, memory-mapped; None if it does not exist or is damaged, in which case it is rebuilt."""
    if not path.exists():
        return None
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == shape and found.dtype == dtype:
            return found
        problem = f"found {found.dtype} of shape {found.shape}, expected {dtype} of shape {shape}"
    except (OSError, ValueError, EOFError) as error:  # too short for what its header says, or no header
        problem = str(error)
    log.warning("%s: damaged (%s); rebuilding the cache", path, problem)
    return None


def note(path: Path) -> dict[str, Any] | None:
    """The note of a cache file, with its settings and the arguments of :meth:`Writer.finish`; None if missing."""
    try:
        found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class Writer:
    """Writes an array to the cache: the caller fills ``array`` and calls :meth:`finish`.

    If the folder is not writable or the disk is full, a warning is logged and the array stays in memory.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], settings: Mapping[str, Any]):
        self.path, self.note = path, dict(settings)
        self.temporary: Path | None = None
        self._lock: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            self.array = self._create(shape, dtype)
        except OSError as error:
            log.warning("%s: cannot write prepared data (%s); keeping them in memory", path.parent, error.strerror or error)
            self.discard()
            self.array = np.empty(shape, dtype)

    def _claim(self) -> Path:
        """A new locked file; retried if another process removed it before it was locked."""
        while True:
            path = self.path.with_name(f".{self.path.stem}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            self.temporary = path
            _lock(self._lock, wait=True)
            if os.fstat(self._lock).st_nlink:
                return path
            os.close(self._lock)

    def _create(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        temporary = self._claim()
        with open(temporary, "rb+") as stream:
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": shape})
            start, length = stream.tell(), math.prod(shape) * dtype.itemsize
            # Reserve the room now: writing through a map to a full disk would end the process with SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, start + length)
            else:
                stream.truncate(start + length)
        return np.memmap(temporary, dtype, "r+", start, shape)

    def finish(self, **note: Any) -> np.ndarray:
        """The complete array, read-only under its final name, or in memory.

        Args:
            note: further content of the note.
        """
        self.note.update(note)
        if self.temporary is not None:
            try:
                self._publish(self.temporary)
            except OSError as error:
                log.warning("%s: cannot be completed (%s); prepared data are not cached", self.path, error.strerror or error)
            self.discard()
        self.array.flags.writeable = False
        return self.array

    def _publish(self, temporary: Path) -> None:
        assert isinstance(self.array, np.memmap)
        self.array.flush()
        _write_note(self.path.with_suffix(".json"), self.note)
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, self.path)
        self.temporary = None
        sync_folder(self.path.parent)
        self.array = np.load(self.path, mmap_mode="r", allow_pickle=False)

    def discard(self) -> None:
        """Remove the file if it is not finished; does nothing after :meth:`finish`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)
            self.temporary = None


def _write_note(path: Path, settings: Mapping[str, Any]) -> None:
    """Write a description of the cache file, which also tells users which files they can delete."""
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}.tmp")  # not a name that _sweep looks for
    temporary.write_text(json.dumps(settings, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file; returns whether it succeeded. The system releases the lock when the process ends."""
    try:
        import fcntl
    except ImportError:
        return wait  # without locks, temporary files are never removed
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(path: Path) -> None:
    """Remove temporary files of killed preparations of this file, which are not locked."""
    for left in path.parent.glob(f".{path.stem}.*.tmp"):
        try:
            handle = os.open(left, os.O_RDWR)
        except OSError:
            continue  # gone, or not ours to remove
        try:
            if _lock(handle, wait=False):
                left.unlink(missing_ok=True)
        finally:
            os.close(handle)
