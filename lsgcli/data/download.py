"""Download of published files with checksums and resumption, and safe extraction of archives.

A file is downloaded to ``<name>.part`` and renamed when it is complete and its checksum matches. An archive is extracted into a hidden
folder, which is moved when complete. An interrupted download or extraction therefore never looks finished.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import shutil
import stat
import tarfile
import time
import unicodedata
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any

import lsgcli
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError, StorageError
from lsgcli.files import making_folder, storage_error, sync_folder

log = logging.getLogger("lsg")
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 2.0, 8.0)  # seconds before retries after temporary failures
ENOUGH = 1 << 20  # bytes of progress that reset the number of failures
CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses of temporary failures
BOMB = 64 << 20  # bytes of content up to which any compression ratio is accepted
RATIO = 1000  # maximum compression ratio of larger content; deflate reaches at most 1032, real data much less
HINT = "Download the archive again."
Progress = Callable[[str, int, int], None]  # description, bytes done, total bytes (0 if unknown)


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: file name on disk, without folders.
        urls: http or https addresses, in the order in which they are tried.
        md5: MD5 checksum as hexadecimal digits.
        size: exact size in bytes.
        about: approximate size in bytes, if the exact size is not published; for messages.
        page: web page of the data set.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int | None = None
    about: int | None = None
    page: str = ""

    def mismatch(self, path: Path) -> str | None:
        """Difference between the file ``path`` and the published one; None if they are equal.

        Raises:
            DataError: it cannot be read.
        """
        try:
            size = path.stat().st_size
            if self.size is not None and size != self.size:
                return f"found {size} bytes, expected {self.size}"
            with open(path, "rb") as stream:
                found = hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check its permissions.") from error
        return None if found == self.md5 else f"found {size} bytes with md5 {found}, expected {self.md5}"

    def under_way(self, folder: Path) -> bool:
        """Whether ``folder`` contains the file, or a part of it."""
        return any((folder / name).is_file() for name in (self.name, f"{self.name}.part"))


def figshare(number: int) -> tuple[str, ...]:
    """Addresses of a figshare file: the plain link, which often responds with 403 or an empty 202, the API, and the file host."""
    return (
        f"https://figshare.com/ndownloader/files/{number}",
        f"https://api.figshare.com/v2/file/download/{number}",
        f"https://ndownloader.figshare.com/files/{number}",
    )


def amount(files: Sequence[RemoteFile]) -> str:
    """The size of ``files`` for messages, such as ``170 MB`` or ``about 7.8 GB``; empty if unknown."""
    sizes = [file.size or file.about for file in files]
    if not all(sizes):
        return ""
    total = sum(size for size in sizes if size)
    text = f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.0f} MB" if total >= 1e6 else f"{total:,} bytes"
    return text if all(file.size for file in files) else f"about {text}"


def by_hand(files: Sequence[RemoteFile], folder: Path) -> str:
    """Instructions for downloading ``files`` manually to ``folder``."""
    page = f" (page of the data set: {files[0].page})" if files[0].page else ""
    listed = [f"{file.name}{_in_brackets(amount([file]))} from {file.urls[0]}" for file in files]
    if len(files) == 1:
        return f"Download {listed[0]} manually{page}, put it in {folder}, and repeat the command."
    what = f"these {len(files)} files{_in_brackets(amount(files))} manually{page}"
    return "\n    ".join([f"Download {what}, put them in {folder}, and repeat the command:", *listed])


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def fetch(files: Sequence[RemoteFile], folder: Path, progress: Progress | None = None) -> list[Path]:
    """Download ``files`` into ``folder``, except existing ones with matching checksum.

    Returns:
        Their paths, in the same order.

    Raises:
        DataError: a file exists with different content, or a download failed from all addresses; the hint lists all missing files.
        StorageError: the disk is full, or the folder cannot be written. Partial downloads are kept.
    """
    with making_folder(folder):
        # Check all existing files first, so that an error is raised before a large download.
        lacking = [file for file in files if not _is_there(file, folder / file.name)]
        for number, file in enumerate(lacking):
            part = folder / f"{file.name}.part"
            try:
                problems = _from_any(file, part, progress or (lambda name, done, total: None))
            finally:
                if _size(part) == 0:
                    part.unlink(missing_ok=True)
            if problems:
                message = "\n    ".join([f"{file.name}: cannot be downloaded:", *problems])
                raise DataError(message, hint=by_hand(lacking[number:], folder))
    return [folder / file.name for file in files]


def _is_there(file: RemoteFile, target: Path) -> bool:
    """Whether ``target`` exists with the right checksum. A file with different content is an error and not replaced."""
    if not target.exists():
        return False
    if problem := file.mismatch(target):
        hint = f"It is damaged or a different file. Remove it to download it again. Or: {by_hand([file], target.parent)}"
        raise DataError(f"{target}: {problem}", hint=hint)
    return True


class _Failed(Exception):
    """The file cannot be downloaded from this address."""


class _Passing(Exception):
    """A temporary failure; a retry may succeed."""


class _Unreachable(_Passing):
    """No connection to the host; not retried before the first byte, because there is probably no network."""


def _from_any(file: RemoteFile, part: Path, progress: Progress) -> list[str]:
    """Download a file from the first working address; returns one problem per address if none works."""
    problems = []
    for url in file.urls:
        try:
            _from(url, file, part, progress)
            return []
        except _Failed as error:
            problems.append(f"{url}: {error}")
    return problems


def _from(url: str, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Download a file from one address; restarts once if the checksum is wrong, for example after resuming a foreign part."""
    problem: str | None = ""
    for _ in range(2):
        failures, received = 0, False
        while True:
            before = _size(part)
            try:
                _transfer(url, file, part, progress)
                break
            except _Passing as error:
                gain = _size(part) - before
                failures, received = 1 if gain >= ENOUGH else failures + 1, received or gain > 0
                if isinstance(error, _Unreachable) and not received:
                    raise _Failed(str(error)) from error
                if failures > len(PAUSES):
                    raise _Failed(f"{error} ({failures} tries)") from error
                log.debug("%s: %s; trying again in %g s", file.name, error, PAUSES[failures - 1])
                time.sleep(PAUSES[failures - 1])
        problem = file.mismatch(part)
        if problem is None:
            with _writing(part), open(part, "rb") as stream:
                os.fsync(stream.fileno())
                part.replace(part.with_name(file.name))
            return sync_folder(part.parent)
        part.unlink()
    raise _Failed(problem)


def _transfer(url: str, file: RemoteFile, part: Path, progress: Progress) -> None:
    """One request, for the complete file or the missing range."""
    start = _size(part)
    headers = {"User-Agent": f"lsg/{lsgcli.__version__}", "Accept-Encoding": "identity"}
    with _answer(url, headers | ({"Range": f"bytes={start}-"} if start else {})) as response:
        if response is None:
            return  # no data after this byte; the checksum decides whether the file is complete
        chunk = _read(response)
        if b"<html" in chunk[:200].lower() or response.headers.get_content_type() == "text/html":
            raise _Failed("found a web page instead of the file; the host requires a browser")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _Failed(f"found content encoded as {response.headers['Content-Encoding']}, expected no encoding")
        found = re.match(r"bytes\s+(\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and (found is None or int(found[1]) != start):
            part.unlink()
            raise _Passing(f"HTTP 206: found a different range, expected one from byte {start}")
        done = start if response.status == 206 else 0
        length = int(response.headers["Content-Length"] or 0)
        total = done + length if length else 0
        if file.size and total and total != file.size:
            raise _Failed(f"found {total} bytes, expected {file.size}")
        _check_room(part, length)
        with _writing(part):
            out = open(part, "ab" if done else "wb", buffering=0)  # noqa: SIM115 (unbuffered, so that a killed process loses no data)
        with out:
            while chunk:
                with _writing(part):
                    out.write(chunk)
                done += len(chunk)
                progress(file.name, done, total)
                if done > (file.size or 2 * (file.about or 1 << 40)):
                    out.truncate(0)
                    raise _Failed(f"found more than {done - 1:,} bytes, expected {amount([file])}")
                chunk = _read(response)
    if done < total:
        raise _Passing(f"cut off after {done} of {total} bytes")
    if not done:
        raise _Failed(f"HTTP {response.status} without data")


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[HTTPResponse | None]:
    """The response with status 200 or 206; None if there are no data after the requested byte."""
    try:
        _check_scheme(url)
        with _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            if response.status not in (200, 206):
                raise _Failed(f"HTTP {response.status} without data; the host requires a browser")
            yield response
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416:
                raise (_Passing if error.code in PASSING else _Failed)(f"HTTP {error.code} {error.reason}") from error
        yield None
    except urllib.error.URLError as error:
        raise _Unreachable(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"no connection: {error or type(error).__name__}") from error
    except ValueError as error:  # invalid address, possibly of a redirect
        raise _Failed(str(error)) from error


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"cut off: {error or type(error).__name__}") from error


def _check_scheme(url: str) -> None:
    if not url.lower().startswith(("http://", "https://")):
        raise _Failed(f"found the address {url}, expected http or https")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> Any:
    return urllib.request.build_opener(_Redirects)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        hint = "Free disk space, or give --data-dir a folder on another disk. Partial downloads are kept."
        raise StorageError(f"{path}: found {free:,} bytes of free disk space, expected {needed:,}", hint=hint)


def unpack(
    archive: Path, folder: Path, progress: Callable[[int, int], None] | None = None, *, inside: str | None = None
) -> list[Path]:
    """Extract a .zip or .tar archive, compressed or not, into ``folder``, which is created if necessary.

    Existing files of the same name are replaced. Times and permissions are not restored. Archives are rejected if they contain
    links or special files, names outside the folder, or more than 64 MiB with a compression ratio above 1000.

    Args:
        progress: called with (bytes read, bytes of the archive).
        inside: extract only the content of this top folder, if the archive contains it.

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is damaged or malicious. Nothing is written.
        StorageError: not enough disk space, or the folder cannot be written.
    """
    work = folder.with_name(f".lsg-unpacking-{folder.name}")
    shutil.rmtree(work, ignore_errors=True)  # left by a killed process
    try:
        with _writing(folder):
            work.mkdir(parents=True)
            for done in _extract(archive, work):
                if progress:
                    progress(done, archive.stat().st_size)
            shutil.rmtree(work / "__MACOSX", ignore_errors=True)  # added by macOS
            source = work / inside if inside and (work / inside).is_dir() else work
            names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
            if folder.exists():
                for name in names:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (source / name).replace(folder / name)
            else:
                source.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return [folder / name for name in names]


def _extract(archive: Path, work: Path) -> Iterator[int]:
    """Write all members; yields the number of bytes read."""
    packed, written = archive.stat().st_size, 0
    for name, size, opened, done in _members(archive):
        parts = _parts(archive, name)
        written += size
        if size < 0 or written > max(BOMB, RATIO * packed):
            raise _refused(archive, name, f"{written:,} bytes compressed to {packed:,}, a ratio above {RATIO}")
        _check_room(work, size)
        target = work.joinpath(*parts)
        try:
            (target.parent if opened else target).mkdir(parents=True, exist_ok=True)
            if opened:
                with _reading(archive):
                    source = opened()
                with source, open(target, "wb") as out:
                    while chunk := _chunk(archive, source):
                        out.write(chunk)
                    if out.tell() != size:
                        raise _refused(archive, name, f"{out.tell()} bytes instead of the stated {size}")
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _refused(archive, name, "a file and a folder of the same name") from error
        yield done


Member = tuple[
    str, int, Callable[[], IO[bytes]] | None, int
]  # name, size, function that opens it if it is a file, bytes of the archive so far


def _members(archive: Path) -> Iterator[Member]:
    with _reading(archive), open(archive, "rb") as raw:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(raw) as content:
                for info in sorted(content.infolist(), key=lambda info: info.header_offset):
                    kind = stat.S_IFMT(info.external_attr >> 16)
                    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                        raise _refused(archive, info.filename, "a link, a device or another special file")
                    opened: Any = None if info.is_dir() else partial(content.open, info)
                    yield info.filename, info.file_size, opened, info.header_offset + info.compress_size
        else:
            with tarfile.open(fileobj=raw) as packed:
                for member in packed:
                    if not (member.isreg() or member.isdir()):
                        raise _refused(archive, member.name, "a link, a device or another special file")
                    opened = None if member.isdir() else partial(packed.extractfile, member)
                    yield member.name, member.size, opened, raw.tell()


def _parts(archive: Path, name: str) -> list[str]:
    """The parts of a member's name, after checking that it stays inside the target folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    if strange or name.startswith("/") or "\\" in name or ":" in name or ".." in parts:
        raise _refused(archive, name, "a name that is absolute, or contains '..' or an invalid character")
    return parts


def _reading(archive: Path) -> contextlib.AbstractContextManager[None]:
    return foreign(archive, "a complete archive", hint=HINT)


def _chunk(archive: Path, source: IO[bytes]) -> bytes:
    with _reading(archive):
        return source.read(CHUNK)


def _refused(archive: Path, name: str, found: str) -> DataError:
    shown = name.encode("unicode_escape").decode()[:200]
    return DataError(f"{archive}: member {shown}: found {found}, expected plain files and folders", hint=HINT)
