"""Unpacking archives that may be hostile: nothing is written outside the folder, and nothing half-done looks finished.

An archive is unpacked into a hidden folder on the same disk, and moved from there when it is complete: by one rename where
the target folder is not there yet, otherwise entry by entry. Hidden folders that a killed process left are swept away by
the next unpacking there. Archives in an archive stay packed. What was unpacked is not synced to the disk file by file: after
a loss of power, a manifest tells what is damaged.

Refused are names that are absolute, have a drive letter, ``..``, a backslash or a control character, or are no text; names
that differ by case alone, or come twice; a file where a folder is needed; links, devices and whatever else is neither file nor
folder; members that hold another number of bytes than they state; anything encrypted; more content than the disk has room
for; and content of more than :data:`BOMB` bytes that is packed to less than 1/:data:`RATIO`. Deflate cannot do better than
1/1032, so real data stay far from that.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from lsgcli.data.fetching.unpackers import FORMATS, Contents, Member
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError, StorageError
from lsgcli.files import make_folder

RATIO = 1000
BOMB = 64 << 20
LONGEST = 255  # bytes of a part of a name, on all usual file systems
DEEPEST = 1024  # bytes of a whole name
CHUNK = 1 << 20
WORK = ".lsg-unpacking-"
JUNK = "__MACOSX"  # a folder of attributes that macOS puts into its zips
HINT = "Fetch the archive again from where the data set was published, and check its checksum."
Progress = Callable[[int, int], None]
Parts = tuple[str, ...]


def unpack(archive: Path, folder: Path, progress: Progress | None = None, *, inside: str | None = None) -> list[Path]:
    """Unpack a .zip, .tar, .tar.gz, .tgz or .tar.xz into ``folder``, which is made if it is not there.

    Files of the same name that are there are replaced. Times and permissions are not taken over.

    Args:
        progress: is called with (done, total): bytes of content of a .zip, bytes of the archive itself of the others.
        inside: take only what lies in this top folder of the archive, without it, if the archive has such a folder.

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is damaged or hostile; the message names it and the member. Nothing has been written.
        StorageError: no room, or the folder cannot be written.
    """
    if not archive.is_file():
        raise DataError(f"{archive}: found no such file, expected an archive")
    make_folder(folder.parent)
    for place in {folder, folder.parent}:
        sweep(place)
    with _writing(folder), _workplace(folder if folder.is_dir() else folder.parent) as work:
        tree = _extract(archive, work, progress or (lambda done, total: None))
        if inside is not None and tree.known.get(_folded((inside,))) == ((inside,), True):
            work = work / inside
            entries = {parts[1:]: kind for parts, kind in tree.entries() if parts[0] == inside}
            entries.pop((), None)
        else:
            shutil.rmtree(work / JUNK, ignore_errors=True)
            entries = {parts: kind for parts, kind in tree.entries() if parts[0] != JUNK}
        _check_way(archive, folder, entries)
        _move(work, folder)
    return sorted(folder.joinpath(*parts) for parts, is_folder in entries.items() if not is_folder)


def names(archive: Path) -> list[str]:
    """The members' names, as stored; of a tar this reads all of it.

    Raises:
        DataError: it is damaged.
    """
    with _open(archive) as contents, foreign(archive, "a whole archive", hint=HINT):
        return [member.name for member in contents.members]


def sweep(folder: Path) -> None:
    """Remove what killed processes left half unpacked in ``folder``: nobody holds the lock on it."""
    for left in folder.glob(f"{WORK}*"):
        with contextlib.suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if _lock(handle, without=False):  # without locks, nothing is ever swept away
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _workplace(place: Path) -> Iterator[Path]:
    """A hidden folder in ``place``, ours as long as we hold the lock on it."""
    while True:
        work = place / f"{WORK}{secrets.token_hex(4)}"
        work.mkdir()
        handle = os.open(work, os.O_RDONLY)
        if _lock(handle, without=True) and work.exists():  # a sweep may have come between
            break
        os.close(handle)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(handle)


def _lock(handle: int, *, without: bool) -> bool:
    """Lock an open folder, and say whether that worked. The system drops the lock when the process ends, however it ends.

    Args:
        without: what to say where the platform or the file system has no locks.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return without
    return True


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written: {error.strerror or error}",
            hint="Make room, or give --data-dir a folder on another disk that is writable.",
        ) from error


def _extract(archive: Path, work: Path, progress: Progress) -> "_Tree":
    """Write all members into ``work``."""
    tree, written = _Tree(archive), 0
    packed, free = archive.stat().st_size, shutil.disk_usage(work).free
    with _open(archive) as contents:
        if contents.total is not None:
            _check_amount(archive, "in all", contents.total, packed, free)
        while (member := _next(archive, contents)) is not None:
            parts = tree.add(member)
            work.joinpath(*parts[: None if member.folder else -1]).mkdir(parents=True, exist_ok=True)
            if not member.folder:
                _check_amount(archive, member.name, member.size, packed if member.packed is None else member.packed, free)
                _check_amount(archive, "in all", written + member.size, packed, free)
                for count in _write(archive, member, work.joinpath(*parts)):
                    written += count
                    progress(*contents.position(written))
        progress(*contents.position(written))
    return tree


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[Contents]:
    opener = next((opener for suffix, opener in FORMATS.items() if archive.name.lower().endswith(suffix)), None)
    if opener is None:
        raise DataError(f"{archive}: found no archive that can be unpacked, expected one of {', '.join(FORMATS)}")
    with contextlib.ExitStack() as stack:
        with foreign(archive, "a whole archive", hint=HINT):
            contents = stack.enter_context(opener(archive))
        yield contents


def _next(archive: Path, contents: Contents) -> Member | None:
    with foreign(archive, "a whole archive", hint=HINT):
        return next(contents.members, None)


def _write(archive: Path, member: Member, target: Path) -> Iterator[int]:
    """Write one file, of exactly as many bytes as were stated; yields how many at a time."""
    left = member.size
    with contextlib.ExitStack() as stack:
        with _reading(archive, member):
            source = stack.enter_context(member.open())
        out = stack.enter_context(open(target, "xb"))
        while True:
            with _reading(archive, member):
                chunk = source.read(min(CHUNK, left + 1))
            left -= len(chunk)
            if left < 0 or (left and not chunk):
                raise _refused(archive, member.name, f"{member.size - left} bytes where it states {member.size}")
            if not chunk:
                return
            out.write(chunk)
            yield len(chunk)


def _reading(archive: Path, member: Member) -> AbstractContextManager[None]:
    return foreign(f"{archive}: member {_shown(member.name)}", "a file that is whole", hint=HINT)


def _check_amount(archive: Path, name: str, size: int, packed: int, free: int) -> None:
    if size < 0:
        raise _refused(archive, name, f"a size of {size} bytes")
    if size > BOMB and size > RATIO * packed:
        raise _refused(archive, name, f"{size:,} bytes packed into {packed:,}, more than {RATIO} to 1")
    if size > free:
        raise StorageError(
            f"{archive}: {_shown(name)}: needs {size:,} bytes, found {free:,} free",
            hint="Make room, or give --data-dir a folder on another disk.",
        )


@dataclass
class _Tree:
    """The names of an archive so far: no two of them may meet on any file system."""

    archive: Path
    known: dict[Parts, tuple[Parts, bool]] = field(default_factory=dict)  # folded -> (as spelt, is a folder)

    def entries(self) -> Iterable[tuple[Parts, bool]]:
        return self.known.values()

    def add(self, member: Member) -> Parts:
        """Check a member; returns the parts of its name."""
        if member.refused:
            raise _refused(self.archive, member.name, member.refused)
        parts = _parts(self.archive, member)
        for depth in range(1, len(parts) + 1):
            self._enter(member, parts[:depth], member.folder or depth < len(parts))
        return parts

    def _enter(self, member: Member, parts: Parts, folder: bool) -> None:
        folded = _folded(parts)
        if folded not in self.known:
            self.known[folded] = parts, folder
            return
        spelt, was_folder = self.known[folded]
        if spelt != parts:
            raise _refused(self.archive, member.name, f"a name that differs from {'/'.join(spelt)} by case or accents alone")
        if was_folder != folder:
            raise _refused(self.archive, member.name, f"a file and a folder that are both called {'/'.join(parts)}")
        if not folder:
            raise _refused(self.archive, member.name, "a second file of this name")


def _folded(parts: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold()) for part in parts)


def _parts(archive: Path, member: Member) -> Parts:
    """The parts of a member's name, which stays below the folder that it is put into."""
    name = member.name
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise _refused(archive, name, "a control character in the name, or bytes that are no text")
    if "\\" in name:
        raise _refused(archive, name, "a backslash in the name")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise _refused(archive, name, "an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise _refused(archive, name, "a path with '..'")
    if parts and parts[0].startswith(WORK):
        raise _refused(archive, name, "a name that is kept for unpacking")
    if len(os.fsencode(name)) > DEEPEST or any(len(os.fsencode(part)) > LONGEST for part in parts):
        raise _refused(archive, name[:60] + "...", "a name that is too long")
    if not parts and not member.folder:
        raise _refused(archive, name, "a file without a name")
    return parts


def _check_way(archive: Path, folder: Path, entries: Mapping[Parts, bool]) -> None:
    """Refuse to replace a folder by a file or the reverse, and to write through a link that is there."""
    if not folder.is_dir():
        return
    for parts, is_folder in entries.items():
        path = folder.joinpath(*parts)
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise _refused(archive, "/".join(parts), f"a link in its place, {path}")
        if stat.S_ISDIR(mode) != is_folder:
            raise _refused(archive, "/".join(parts), f"a {'file' if is_folder else 'folder'} in its place, {path}")


def _move(work: Path, folder: Path) -> None:
    """Move what was unpacked to where it belongs; one rename where there is nothing yet."""
    if not folder.exists():
        os.rename(work, folder)
        return
    with os.scandir(work) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                _move(Path(entry.path), folder / entry.name)
            else:
                os.replace(entry.path, folder / entry.name)


def _shown(name: str) -> str:
    return name.encode("unicode_escape").decode()


def _refused(archive: Path, name: str, found: str) -> DataError:
    return DataError(f"{archive}: member {_shown(name)}: found {found}, expected plain files and folders", hint=HINT)
