"""Published files: downloaded with their checksum, resumed after an interruption, and unpacked so that nothing leaves the folder.

What has arrived of a file lies in ``<name>.part`` until it is complete and its checksum is right. An archive is unpacked into a
hidden folder first, and moved when it is complete. So an interrupted download or unpacking never looks finished.
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
PAUSES = (0.5, 2.0, 8.0)  # seconds before another try after a passing failure
ENOUGH = 1 << 20  # bytes of a try after which failures are counted from 1 again
CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that may be gone in a moment
BOMB = 64 << 20  # bytes of content up to which an archive may be packed as well as it likes
RATIO = 1000  # and beyond: content per packed byte. Deflate cannot exceed 1032, so real data stay far from it.
HINT = "Download the archive again."
Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all (0 where that is not known)


@dataclass(frozen=True)
class RemoteFile:
    """A file as it was published.

    Attributes:
        name: of the file on disk; no folders.
        urls: addresses, http or https, in the order in which they are tried.
        md5: checksum as hexadecimal digits.
        size: bytes, exactly.
        about: bytes, approximately, where the exact size is not published; for messages.
        page: web page of the data set.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int | None = None
    about: int | None = None
    page: str = ""

    def mismatch(self, path: Path) -> str | None:
        """How the file ``path`` differs from the published one; None if it does not.

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
        """Whether the file, or a part of it, lies in ``folder``."""
        return any((folder / name).is_file() for name in (self.name, f"{self.name}.part"))


def figshare(number: int) -> tuple[str, ...]:
    """Addresses of a file of figshare: the plain link, which often answers 403 or an empty 202, the API, and the file host."""
    return (
        f"https://figshare.com/ndownloader/files/{number}",
        f"https://api.figshare.com/v2/file/download/{number}",
        f"https://ndownloader.figshare.com/files/{number}",
    )


def amount(files: Sequence[RemoteFile]) -> str:
    """The size of ``files`` for a message, such as ``170 MB`` or ``about 7.8 GB``; empty where it is not known."""
    sizes = [file.size or file.about for file in files]
    if not all(sizes):
        return ""
    total = sum(size for size in sizes if size)
    text = f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.0f} MB" if total >= 1e6 else f"{total:,} bytes"
    return text if all(file.size for file in files) else f"about {text}"


def by_hand(files: Sequence[RemoteFile], folder: Path) -> str:
    """How to download ``files`` with a browser, for a data set in ``folder``."""
    page = f" (page of the data set: {files[0].page})" if files[0].page else ""
    listed = [f"{file.name}{_in_brackets(amount([file]))} from {file.urls[0]}" for file in files]
    if len(files) == 1:
        return f"Download {listed[0]} by hand{page}, put it in {folder}, and run the same command again."
    what = f"these {len(files)} files{_in_brackets(amount(files))} by hand{page}"
    return "\n    ".join([f"Download {what}, put them in {folder}, and run the same command again:", *listed])


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def fetch(files: Sequence[RemoteFile], folder: Path, progress: Progress | None = None) -> list[Path]:
    """Download ``files`` into ``folder``, but for those that are there with the right checksum.

    Returns:
        Their paths, in the same order.

    Raises:
        DataError: a file is there with other content, or every address of one failed; the hint names all that is missing.
        StorageError: the disk is full, or the folder cannot be written. What has arrived is kept.
    """
    with making_folder(folder):
        # All that is there is looked at before anything is fetched: gigabytes should not come before an error.
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
    """Whether ``target`` is there, whole. One with other content was put there by somebody: it is not replaced."""
    if not target.exists():
        return False
    if problem := file.mismatch(target):
        hint = f"It is damaged or another file. Move it away, and it is downloaded. Or: {by_hand([file], target.parent)}"
        raise DataError(f"{target}: {problem}", hint=hint)
    return True


class _Failed(Exception):
    """This address does not give the file."""


class _Passing(Exception):
    """This try failed, another may not."""


class _Unreachable(_Passing):
    """No connection to the host. Before the first byte of it, that means no network, and another try fails likewise."""


def _from_any(file: RemoteFile, part: Path, progress: Progress) -> list[str]:
    """Download a file from the first address that gives it; if none does, what each of them answered."""
    problems = []
    for url in file.urls:
        try:
            _from(url, file, part, progress)
            return []
        except _Failed as error:
            problems.append(f"{url}: {error}")
    return problems


def _from(url: str, file: RemoteFile, part: Path, progress: Progress) -> None:
    """Download a file from one address: once more from the start where the checksum is wrong, as after another part."""
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
    """One request, for the whole file or for what is missing of it."""
    start = _size(part)
    headers = {"User-Agent": f"lsg/{lsgcli.__version__}", "Accept-Encoding": "identity"}
    with _answer(url, headers | ({"Range": f"bytes={start}-"} if start else {})) as response:
        if response is None:
            return  # nothing is left to send; the checksum says whether the part is the file
        chunk = _read(response)
        if b"<html" in chunk[:200].lower() or response.headers.get_content_type() == "text/html":
            raise _Failed("found a web page instead of the file: the host asks for a browser")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _Failed(f"found content encoded as {response.headers['Content-Encoding']}, expected the file itself")
        found = re.match(r"bytes\s+(\d+)-", response.headers.get("Content-Range", ""))
        if response.status == 206 and (found is None or int(found[1]) != start):
            part.unlink()
            raise _Passing(f"HTTP 206: found another range than from byte {start}")
        done = start if response.status == 206 else 0
        length = int(response.headers["Content-Length"] or 0)
        total = done + length if length else 0
        if file.size and total and total != file.size:
            raise _Failed(f"found {total} bytes, expected {file.size}")
        _check_room(part, length)
        with _writing(part):
            out = open(part, "ab" if done else "wb", buffering=0)  # noqa: SIM115 (unbuffered: a killed process loses nothing)
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
    """The answer with data, 200 or 206; None where there is none from that byte on."""
    try:
        _check_scheme(url)
        with _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            if response.status not in (200, 206):
                raise _Failed(f"HTTP {response.status} without data: the host asks for a browser")
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
    except ValueError as error:  # an address that is none, perhaps of a redirect
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
        hint = "Make room, or give --data-dir a folder on another disk; what has arrived is kept."
        raise StorageError(f"{path}: needs {needed:,} bytes, found {free:,} free", hint=hint)


def unpack(
    archive: Path, folder: Path, progress: Callable[[int, int], None] | None = None, *, inside: str | None = None
) -> list[Path]:
    """Unpack a .zip or a .tar, packed or not, into ``folder``, which is made if it is not there.

    Files of the same name are replaced. Times and permissions are not taken over. An archive is refused whose members are
    anything but plain files and folders, have names that lead out of the folder, or are a bomb: more than 64 MiB that are
    packed to less than 1/1000.

    Args:
        progress: called with (bytes read, bytes of the archive).
        inside: take only the content of this top folder, if the archive has it.

    Returns:
        The files, sorted.

    Raises:
        DataError: the archive is damaged or hostile. Nothing has been written.
        StorageError: no room, or the folder cannot be written.
    """
    work = folder.with_name(f".lsg-unpacking-{folder.name}")
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        with _writing(folder):
            work.mkdir(parents=True)
            for done in _extract(archive, work):
                if progress:
                    progress(done, archive.stat().st_size)
            shutil.rmtree(work / "__MACOSX", ignore_errors=True)  # attributes that macOS adds
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
    """Write all members; yields the bytes of the archive that have been read."""
    packed, written = archive.stat().st_size, 0
    for name, size, opened, done in _members(archive):
        parts = _parts(archive, name)
        written += size
        if size < 0 or written > max(BOMB, RATIO * packed):
            raise _refused(archive, name, f"{written:,} bytes packed into {packed:,}, more than {RATIO} to 1")
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
                        raise _refused(archive, name, f"{out.tell()} bytes where it states {size}")
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _refused(archive, name, "a file and a folder of one name") from error
        yield done


Member = tuple[
    str, int, Callable[[], IO[bytes]] | None, int
]  # name, size, opens it if it is a file, bytes of the archive so far


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
    """The parts of a member's name, which stay below the folder that it is put into."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    strange = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    if strange or name.startswith("/") or "\\" in name or ":" in name or ".." in parts:
        raise _refused(archive, name, "a name that is absolute, has '..', or a character that names do not have")
    return parts


def _reading(archive: Path) -> contextlib.AbstractContextManager[None]:
    return foreign(archive, "a whole archive", hint=HINT)


def _chunk(archive: Path, source: IO[bytes]) -> bytes:
    with _reading(archive):
        return source.read(CHUNK)


def _refused(archive: Path, name: str, found: str) -> DataError:
    shown = name.encode("unicode_escape").decode()[:200]
    return DataError(f"{archive}: member {shown}: found {found}, expected plain files and folders", hint=HINT)
