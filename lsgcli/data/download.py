"""Download of published files with checksums and resumption, and safe extraction of archives.

A file is downloaded to ``<name>.part`` and renamed when its checksum matches. An archive is extracted into a hidden folder, which is
moved when complete. An interrupted download or extraction therefore never looks finished.
"""

import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

from lsgcli.data import web
from lsgcli.data.guard import FULL, foreign, readable
from lsgcli.data.parallel import NamedProgress, silent
from lsgcli.errors import DataError, StorageError, log
from lsgcli.system.files import (
    check_no_link,
    making_folder,
    open_in_place,
    open_regular,
    storage_error,
    sync_folder,
    walk,
    writing,
)

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 2.0, 8.0)  # seconds before retries after temporary failures
ENOUGH = 1 << 20  # bytes of progress that reset the number of failures
CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses of temporary failures
BOMB = 64 << 20  # bytes of content up to which any compression ratio is accepted
RATIO = 1000  # maximum compression ratio of larger content; deflate reaches at most 1032, real data much less
SIGNATURES = {".zip": b"PK", ".gz": b"\x1f\x8b"}  # first bytes of archives
HINT = "Download the archive again."


class RemoteFile(NamedTuple):
    """A published file.

    Attributes:
        name: file name on disk, without folders.
        urls: http or https addresses, in the order in which they are tried.
        md5: MD5 checksum as hexadecimal digits.
        size: approximate size in bytes.
        page: web page of the data set.
        content: of an archive, the file or folder that it is extracted to.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int
    page: str = ""
    content: str = ""

    def mismatch(self, path: Path) -> str | None:
        """Difference between the file ``path`` and the published one; None if they are equal.

        Raises:
            DataError: it cannot be read.
        """
        with readable(path), open_regular(path) as stream:
            found = hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
            return None if found == self.md5 else f"found {stream.tell()} bytes with md5 {found}, expected {self.md5}"


def figshare(number: int) -> tuple[str, ...]:
    """Addresses of a figshare file: the plain link, which often responds with 403 or an empty 202, the API, and the file host."""
    return (
        f"https://figshare.com/ndownloader/files/{number}",
        f"https://api.figshare.com/v2/file/download/{number}",
        f"https://ndownloader.figshare.com/files/{number}",
    )


def amount(files: Sequence[RemoteFile]) -> str:
    """The total size of ``files`` for messages, such as ``about 7,800 MB``."""
    return f"about {sum(file.size for file in files) / 1e6:,.0f} MB"


def by_hand(files: Sequence[RemoteFile], folder: Path) -> str:
    """Instructions for downloading ``files`` manually to ``folder``."""
    lines = [f"{file.name} ({amount([file])}) from {file.urls[0]}" for file in files]
    what = f"Download manually ({files[0].page}, {amount(files)}), put in {folder}, and repeat the command:"
    return "\n    ".join([what, *lines])


def fetch(files: Sequence[RemoteFile], folder: Path, progress: NamedProgress = silent) -> list[Path]:
    """Download ``files`` into ``folder``, except existing ones with matching checksum.

    Returns:
        Their paths, in the same order.

    Raises:
        DataError: a file exists with different content, or a download failed from all addresses; the hint lists all missing files.
        StorageError: the disk is full, or the folder cannot be written. Partial downloads are kept.
    """
    with making_folder(folder):
        lacking = [file for file in files if not (folder / file.name).exists()]
        for file in files:  # before any large download; a file with different content is not replaced
            if file not in lacking and (problem := file.mismatch(folder / file.name)):
                hint = "It is damaged or a different file. Remove it to download it again."
                raise DataError(f"{folder / file.name}: {problem}", hint)
        if lacking:
            log.info("%s: downloading %s (%s)", folder, ", ".join(file.name for file in lacking), amount(lacking))
        for number, file in enumerate(lacking):
            part = folder / f"{file.name}.part"
            problems = []
            for path in (part, folder / file.name):
                check_no_link(path)
            for url in file.urls:
                if (problem := _from(url, file, part, progress)) is None:
                    break
                problems.append(f"{url}: {problem}")
            else:
                message = "\n    ".join([f"{file.name}: cannot be downloaded:", *problems])
                raise DataError(message, by_hand(lacking[number:], folder))
            with writing(part), open(part, "rb") as stream:
                os.fsync(stream.fileno())
                part.replace(folder / file.name)
            sync_folder(folder)
    return [folder / file.name for file in files]


class _Failed(Exception):
    """A request failed; ``again`` if a retry may succeed."""

    def __init__(self, problem: str, *, again: bool = False):
        super().__init__(problem)
        self.again = again


def _from(url: str, file: RemoteFile, part: Path, progress: NamedProgress) -> str | None:
    """Complete ``part`` from one address, with retries; returns the problem if it fails."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _request(url, file, part, progress)
            return None
        except _Failed as error:
            failures = 1 if _size(part) - before >= ENOUGH else failures + 1
            if not error.again or failures > len(PAUSES):
                return str(error)
            time.sleep(PAUSES[failures - 1])


def _request(url: str, file: RemoteFile, part: Path, progress: NamedProgress) -> None:
    """One request, for the complete file or the bytes after ``part``, whose checksum is then verified."""
    start = _size(part)
    try:
        with web.request(url, start, TIMEOUT) as response:
            _save(response, file, part, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or start == 0:  # no bytes after the part: the checksum decides whether it is complete
            raise _Failed(f"HTTP {error.code} {error.reason}", again=error.code in PASSING) from error
    except urllib.error.URLError as error:  # probably no network, unless the host has answered before
        raise _Failed(f"no connection: {error.reason}", again=start > 0) from error
    except web.TooSlow as error:
        raise _Failed(str(error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failed(f"no connection: {error or type(error).__name__}", again=True) from error
    if problem := file.mismatch(part):
        part.unlink()
        raise _Failed(problem, again=start > 0)  # the part may have been of another file


def _save(response: Any, file: RemoteFile, part: Path, progress: NamedProgress) -> None:
    """Write the content of a response to ``part``."""
    chunk = response.read1(1)
    if not chunk or response.status not in (200, 206):
        raise _Failed(f"HTTP {response.status} without data; the host requires a browser")
    if response.headers.get_content_type() == "text/html":
        raise _Failed("found a web page instead of the file; the host requires a browser")
    with writing(part):
        if response.status == 200:
            part.unlink(missing_ok=True)
        start = done = _size(part)
    total = done + 1 + response.length if response.length is not None else 0
    _check_part(file, part, max(done, total), resumed=start > 0)
    free = shutil.disk_usage(part.parent).free
    if total - done > free:
        hint = "Free disk space, or give --data-dir a folder on another disk. Partial downloads are kept."
        raise StorageError(f"{part}: found {free:,} bytes of free disk space, expected {total - done:,}", hint)
    with writing(part):  # unbuffered, so that a killed process loses no data
        out = open_in_place(part, "ab")
    with out:
        while chunk:
            with writing(part):
                out.write(chunk)
            done += len(chunk)
            progress(file.name, done, total)
            _check_part(file, part, done, resumed=start > 0)
            chunk = response.read1(min(CHUNK, 2 * file.size + 1 - done))
    if done < total:
        raise _Failed(f"cut off after {done} of {total} bytes", again=True)


def _check_part(file: RemoteFile, part: Path, size: int, *, resumed: bool) -> None:
    """Remove ``part``, which has or will have ``size`` bytes, and raise _Failed if it is too large or begins as another file."""
    begin = b""
    expected = SIGNATURES.get(PurePath(file.name).suffix, b"")
    if part.exists():
        with part.open("rb") as stream:
            begin = stream.read(len(expected))
    problem = ""
    if size > 2 * file.size:
        problem = f"found {size:,} bytes, expected at most {2 * file.size:,}"
    elif not expected.startswith(begin):
        problem = f"found a file that starts with {begin!r}, expected {expected!r}"
    if problem:
        part.unlink(missing_ok=True)
        raise _Failed(problem, again=resumed)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def unpack(archive: Path, target: Path, progress: NamedProgress = silent) -> list[Path]:
    """Extract a .zip or .tar archive, compressed or not, to ``target``, which must not exist or be an empty folder.

    If the archive contains a folder or file of the target's name, ``target`` becomes its copy; if it contains a .zip of this name,
    that is extracted instead. Times and permissions are not restored. Archives are rejected if they contain
    links or special files, names outside the folder, or more than 64 MiB with a compression ratio above 1000.

    Args:
        progress: called with (``unpacking NAME``, bytes read, bytes of the archive).

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is damaged or malicious. Nothing is written.
        StorageError: not enough disk space, or the folder cannot be written.
    """
    work = target.with_name(f".lsg-unpacking-{archive.stem}-{target.name}")
    shutil.rmtree(work, ignore_errors=True)  # left by a killed process
    try:
        with writing(target):
            work.mkdir(parents=True)
        with foreign(archive, "a complete archive", hint=HINT):
            for done in _extract(archive, work):
                progress(f"unpacking {archive.name}", done, archive.stat().st_size)
        unpacked = [at / name for at, _, names in walk(work) for name in names]
        for path in unpacked:
            if path.name == f"{target.name}.zip":
                return unpack(path, target, progress)
        source = work / target.name if (work / target.name).exists() else work
        files = sorted(path for path in unpacked if path.is_relative_to(source))
        check_no_link(target)
        with writing(target):
            source.replace(target)
        return [target / path.relative_to(source) for path in files]
    finally:
        shutil.rmtree(work, ignore_errors=True)


Member = tuple[str, int, bool, Callable[[Path], object]]  # name, size, whether it is a plain file or folder, its extraction


def _extract(archive: Path, work: Path) -> Iterator[int]:
    """Extract all members; yields the number of bytes read."""
    packed = archive.stat().st_size
    written = 0
    with open(archive, "rb") as raw:
        for name, size, plain, extract in _in_zip(raw) if archive.suffix.lower() == ".zip" else _in_tar(raw):
            if not plain:
                raise _refused(archive, name, "a link, a device or another special file")
            if not name.isprintable() or name.startswith("/") or ".." in name.split("/") or set(name) & {"\\", ":"}:
                raise _refused(archive, name, "a name that is absolute, or contains '..' or an invalid character")
            written += size
            if size < 0 or written > max(BOMB, RATIO * packed):
                raise _refused(archive, name, f"{written:,} bytes compressed to {packed:,}, a ratio above {RATIO}")
            try:
                extract(work)
            except OSError as error:
                if error.errno in FULL:
                    raise storage_error(error, work) from error
                raise
            if (work / name).is_file() and (found := (work / name).stat().st_size) != size:
                raise _refused(archive, name, f"{found} bytes instead of the stated {size}")
            yield raw.tell()


def _in_zip(raw: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as content:
        raw.seek(0)  # from the list of members at the end, so that positions increase
        for info in sorted(content.infolist(), key=lambda info: info.header_offset):
            plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
            yield info.filename, info.file_size, plain, partial(content.extract, info)


def _in_tar(raw: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=raw) as content:
        for member in content:
            extract = partial(content.extract, member, set_attrs=False, filter="data")
            yield member.name, member.size, member.isreg() or member.isdir(), extract


def _refused(archive: Path, name: str, found: str) -> DataError:
    shown = name.encode("unicode_escape").decode()[:200]
    return DataError(f"{archive}: member {shown}: found {found}, expected plain files and folders", HINT)
