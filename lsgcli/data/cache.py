"""Cache of prepared samples: a ``.npy`` file and a ``.json`` note per data set, split, and digest of all settings and sources.

Files are written by one process at a time, under temporary names, and renamed when they are complete and synced, so a killed
preparation never looks finished. Changed settings or sources give another digest.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config.fields import Values
from lsgcli.config.machine import MachineConfig
from lsgcli.errors import DataError, StorageError, log
from lsgcli.system import files, schema

VERSION = 3  # of the format of the cache and its notes
Note = schema.Record


def folder(config: MachineConfig) -> Path:
    """--cache-dir, or that of the user."""
    return Path(config.cache_dir) if config.cache_dir else files.user_cache()


def digest(settings: Values) -> str:
    """Digest of settings of JSON types, independent of their order."""
    text = json.dumps({**settings, "cache_version": VERSION}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def load(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fill: Callable[[np.ndarray], Note],
    usable: Callable[[Note], bool] = lambda note: True,
) -> tuple[np.ndarray, Note]:
    """The array in the cache file ``path``, memory-mapped and read-only, and its note.

    A missing, damaged or unusable file is rebuilt; another process that rebuilds it is waited for. If the folder is not writable or
    the disk is full, a warning is logged and the array stays in memory.

    Args:
        fill: fills an array and returns its note.
        usable: whether a file with this note may be used.
    """
    array: np.ndarray
    note: Note | None = None

    def existing() -> tuple[np.ndarray, Note] | None:
        found = _read(path, shape, dtype)
        return found if found is not None and usable(found[1]) else None

    try:
        if found := existing():
            return found
        files.make_folder(path.parent)
        with files.locked(path.with_suffix(".lock"), f"{path}: another process is preparing these data; waiting"):
            if found := existing():
                return found
            for left in path.parent.glob(f"{files.PARTIAL}*-{path.stem}.*"):  # by killed preparations
                with contextlib.suppress(OSError):
                    left.unlink()
            with files.replacing(path) as temporary:
                array = mapped = _create(temporary, shape, dtype)
                note = fill(array)
                mapped.flush()
                _note(path).unlink(missing_ok=True)  # it does not describe the new file
            files.write_json(_note(path), note)
            return np.lib.format.open_memmap(path, mode="r"), note
    except StorageError as error:
        log.warning("%s\n  Keeping prepared data in memory.", error.message)
    if note is None:
        array = np.empty(shape, dtype)
        note = fill(array)
    array.flags.writeable = False
    return array.view(np.ndarray), note  # not a memory map, as there is no file


def _note(path: Path) -> Path:
    """The note of a cache file, which also tells users which files they can delete."""
    return path.with_suffix(".json")


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, Note] | None:
    """An existing array and its note; None if one of them is missing or damaged."""
    try:
        if not _note(path).exists():
            return None
        note: Note = schema.read(_note(path), Note, DataError)
        found: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        if found.shape == shape and found.dtype == dtype:
            return found, note
        problem = f"found {found.dtype} of shape {found.shape}, expected {dtype} of shape {shape}"
    except FileNotFoundError:
        return None
    except (DataError, OSError, ValueError, EOFError) as error:  # too short for what its header says, or no header
        problem = str(error)
    log.warning("%s: damaged (%s); rebuilding the cache", path, problem)
    with contextlib.suppress(OSError):
        _note(path).unlink()
    return None


def _create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        # Reserve the room now: writing through a map to a full disk would end the process with SIGBUS.
        with open(path, "rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array
