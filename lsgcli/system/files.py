"""Atomic writes, and locks between processes. A reader sees either the complete old file or the complete new one.

Functions that write raise :class:`StorageError` if a file or folder cannot be written; an existing one is then unchanged. They do not
write through symbolic links, whose targets may lie anywhere (:func:`check_no_link`).
"""

import errno
import io
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lsgcli.errors import LsgError, StorageError, clean, log

KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
PARTIAL = ".partial-"  # prefix of temporary files
BRIEFLY, POLL = 0.1, 0.02  # seconds; another process that only tests a lock holds it for less than BRIEFLY
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of file systems without locks


@contextmanager
def replacing(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A temporary path that is synced to disk and renamed to ``target`` when the block ends without an error.

    Args:
        target: file to replace, or folder to create, which must be new or empty.
        folder: whether it is a folder; the temporary folder exists when the block begins.

    Raises:
        StorageError: it cannot be written, or is a symbolic link.
    """
    target = target if target.name else target.absolute()
    check_no_link(target)
    temporary = target.with_name(f"{PARTIAL}{os.urandom(4).hex()}-{target.name[-50:]}")  # a name has at most 255 bytes
    try:
        if folder:
            temporary.mkdir()
        yield temporary
        for file in temporary.iterdir() if folder else (temporary,):
            _finish(file)
        if folder:
            sync_folder(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        if folder:
            shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # report the original error
            temporary.unlink()


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically, with control characters escaped, and bytes of file names that are not UTF-8."""
    with replacing(target) as temporary:
        temporary.write_text(clean(text), encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON."""
    write_text(target, json_text(value, indent=2) + "\n")


def append_json_line(target: Path, value: Any) -> None:
    """Append a line to a JSONL file."""
    with writing(target), open_in_place(target, "a") as stream:
        stream.write(json_text(value) + "\n")


class NotRegularError(OSError):
    """A path is a folder, FIFO, socket or device; opening or reading some of them never ends."""

    hint = "Copy its content to a file, or check the path."

    def __str__(self) -> str:
        return str(self.strerror)


def kind_of(mode: int) -> str:
    """The kind of a path with this ``st_mode`` of :func:`os.stat`, such as ``a file``."""
    return KINDS.get(stat.S_IFMT(mode), "a device")


def check_regular(path: Path | str, status: os.stat_result | None = None) -> int:
    """Size in bytes of a regular file.

    Args:
        status: result of :func:`os.stat`, if known.

    Raises:
        NotRegularError: it is not a regular file.
        OSError: it does not exist, or is not accessible.
    """
    status = status or os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, f"found {kind_of(status.st_mode)}, expected a regular file", str(path))
    return status.st_size


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading, without waiting for the writer of a FIFO. Errors as for :func:`check_regular`."""
    return open(path, "rb", opener=_open_regular)


def open_in_place(target: Path, mode: str) -> IO[Any]:
    """Open ``target`` itself for appending or writing; :func:`replacing` writes a complete new file instead.

    Args:
        mode: ``a``, ``w``, ``ab`` or ``wb``. Text is UTF-8 with line breaks as written; bytes are not buffered.

    Raises:
        StorageError: it is a symbolic link.
        OSError: it cannot be opened, or is not a regular file.
    """
    check_no_link(target)
    binary = "b" in mode
    text: Any = {} if binary else {"encoding": "utf-8", "newline": ""}
    return open(target, mode, buffering=0 if binary else -1, opener=_open_regular, **text)


def _open_regular(path: str, flags: int) -> int:
    if flags & os.O_WRONLY:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        check_regular(path, os.fstat(descriptor))
    except NotRegularError:
        os.close(descriptor)
        raise
    return descriptor


def user_cache() -> Path:
    """The folder of everything that lsg caches for the user: ``$XDG_CACHE_HOME/lsg``, ``~/.cache/lsg``, or without a home ``/tmp/lsg-<uid>``."""
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(folder):  # a folder relative to the working directory could be a stranger's
            return Path(folder) / "lsg"
    return Path(tempfile.gettempdir()) / f"lsg-{os.getuid()}"


def make_private(folder: Path) -> None:
    """Create a folder for files that run code when they are read, which nobody else could have put there.

    As ssh does for its keys: the folder, everything in it, and every folder above it are of this user or root; others cannot write.

    Raises:
        StorageError: the folder exists and is not private, or it cannot be created.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if hasattr(os, "getuid") and (problem := _not_private(folder.absolute())):
            raise StorageError(f"{problem}, expected only this user to write to {folder}", "Remove it, or use another folder.")


def _not_private(folder: Path) -> str:
    """What permits others to write to a folder or anything in it; empty if nothing does."""
    own = {0, os.getuid()}
    above = {*own, os.stat("/").st_uid}  # in a container that does not map root, / is nobody's
    if folder.is_symlink() or os.lstat(folder).st_mode & 0o077:
        return f"{folder}: found a link or a folder that others may enter"
    for path in {*folder.parents, *folder.resolve().parents}:
        status = os.stat(path)
        others = status.st_mode & 0o002 or (status.st_mode & 0o020 and not _is_alone_in(status.st_gid))
        if status.st_uid not in above or (others and not status.st_mode & stat.S_ISVTX):
            return f"{path}: found a folder that others may write to"
    for path in (folder, *folder.rglob("*")):
        if os.lstat(path).st_uid not in own or path.is_symlink():
            return f"{path}: found a link, or an owner other than this user"
    return ""


def _is_alone_in(group: int) -> bool:
    """Whether a group is that of this user alone; where each user has one, files are writable to it."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.getuid())
        found = grp.getgrgid(group)
    except KeyError:
        return False
    return group == user.pw_gid and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def check_no_link(path: Path, inside: Path | None = None) -> None:
    """Check that ``path`` is not a symbolic link.

    Args:
        inside: a folder above ``path``; the folders between them are checked too.

    Raises:
        StorageError: one of them is a link.
    """
    for checked in (path, *(folder for folder in path.parents if inside in folder.parents)):
        if checked.is_symlink():
            raise StorageError(
                f"{checked}: found a symbolic link, expected {'a file or folder' if checked is path else 'a folder'} of its own",
                "Remove the link: lsg writes nothing through it.",
            )


def finite(value: Any) -> Any:
    """``value`` with NaN and infinity, which JSON does not support, replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON, in which NaN and infinity are null; all JSON that lsg prints or stores is written by this function."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def make_folder(folder: Path, inside: Path | None = None) -> None:
    """Create a folder and its parents.

    Args:
        inside: a folder above it, such as a run directory: neither ``folder`` nor a folder between them may be a link.

    Raises:
        StorageError: it cannot be created, or is a link.
    """
    if inside is not None:
        check_no_link(folder, inside)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def making_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents, and remove those that are still empty when the block ends."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


@contextmanager
def locked(path: Path, busy: str | LsgError) -> Iterator[None]:
    """Hold a lock on the file ``path``, which exists only while a process holds it or after the process was killed.

    The system releases the lock of a killed process. On file systems without locks, this does nothing.

    Args:
        busy: if another process holds the lock: a warning to log before waiting for it, or an error to raise instead.
    """
    from filelock import FileLock, Timeout  # takes 30 ms

    check_no_link(path)
    lock = FileLock(path, mode=0o666 & ~_umask(), fallback_to_soft=False)
    try:
        try:
            lock.acquire(BRIEFLY, poll_interval=POLL)
        except Timeout:
            if isinstance(busy, LsgError):
                raise busy from None
            log.warning("%s", busy)
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise storage_error(error, path) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows refuses to remove an open file; filelock removes it there
            path.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on the file ``path``; nobody holds that on a folder.

    Raises:
        StorageError: ``path`` is a symbolic link.
    """
    check_no_link(path)
    if not path.is_file():
        return False
    try:
        with locked(path, StorageError("")):
            return False
    except StorageError:  # held, or a lock of another user
        return True


def walk(
    root: Path, *, follow: bool = False, onerror: Callable[[OSError], object] = lambda error: None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder in and below ``root``, at any depth, with the sorted names of its folders and of its other entries.

    Unlike :func:`os.walk` before Python 3.12 and :meth:`pathlib.Path.rglob` before 3.13, it does not recurse for each level. As with the
    former, folders that the caller removes from their list are left out.

    Args:
        follow: whether symbolic links to folders are followed.
        onerror: called with the error of a folder that cannot be listed.
    """
    pending = [root]
    while pending:
        at = pending.pop()
        try:
            names = sorted(os.listdir(at))
        except OSError as error:
            onerror(error)
            continue
        folders = [name for name in names if os.path.isdir(at / name) and (follow or not os.path.islink(at / name))]
        yield at, folders, sorted(set(names) - set(folders))
        pending += [at / name for name in reversed(folders)]


def remove_partial(folder: Path, *patterns: str) -> None:
    """Remove temporary files and folders of killed processes from ``folder``, and those whose names match one of ``patterns``."""
    for leftover in (path for pattern in (f"{PARTIAL}*", *patterns) for path in folder.glob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def storage_error(error: OSError, target: Path) -> StorageError:
    """A StorageError with the reason why ``target`` could not be written."""
    return StorageError(
        f"{target}: cannot be written: {error.strerror or error}",
        "Choose a writable folder with enough free space.",
    )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Context that turns an OSError into a StorageError about ``target``."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, target) from error


def sync_folder(folder: Path) -> None:
    """Sync ``folder`` to disk, so that a rename in it survives a system crash."""
    with suppress(OSError):  # some file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _finish(file: Path) -> None:
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())
    # Some libraries create files readable only by the owner; apply the umask as for other files.
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
