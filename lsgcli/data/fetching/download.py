"""Fetching published files: checked, resumable, and under their final name only when they are whole.

What has arrived lies in ``<name>.part`` beside the target until it is complete and its checksum is right; a transfer that
was cut off, or a process that was killed, goes on from there by HTTP Range. ``<name>.part.json`` remembers which version of
the file, by the server's ETag or date, the part belongs to.
"""

import contextlib
import hashlib
import http.client
import logging
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any

import lsgcli
from lsgcli.data.fetching.partial import Part
from lsgcli.errors import DataError, StorageError
from lsgcli.files import making_folder

log = logging.getLogger("lsg")
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (0.5, 2.0, 8.0)  # seconds before another try after a passing failure
ENOUGH = 1 << 20  # bytes that make a try count as progress, after which the tries are counted anew
CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that may be gone in a moment
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file as it was published.

    Attributes:
        name: what it is called on disk; no folders.
        urls: addresses, http or https, in the order in which they are tried.
        md5, sha256: as hexadecimal digits; sha256 is used where both are given.
        size: bytes, exactly.
        about: bytes, approximately, where the exact size is not published; for messages alone.
        page: web page of the data set.
    """

    name: str
    urls: tuple[str, ...]
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    about: int | None = None
    page: str = ""

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Name of the algorithm, and the digest."""
        found = (("sha256", self.sha256), ("md5", self.md5))
        return next(((kind, digest.lower()) for kind, digest in found if digest), None)

    def mismatch(self, path: Path) -> str | None:
        """How ``path`` differs from what was published; None if it does not.

        Raises:
            DataError: it cannot be read.
        """
        try:
            size = path.stat().st_size
            if self.size is not None and size != self.size:
                return f"found {size} bytes, expected {self.size}"
            if self.checksum is None:
                return None
            kind, expected = self.checksum
            with open(path, "rb") as stream:
                found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check its permissions.") from error
        return None if found == expected else f"found {size} bytes with {kind} {found}, expected {expected}"


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


def fetch(files: Sequence[RemoteFile], root: Path, progress: Progress | None = None) -> list[Path]:
    """Have ``files`` in the folder ``root``; those that are there with the right checksum are kept.

    Args:
        progress: is called with the name of the file under way, its bytes done, and in all (0 if the server does not tell).

    Returns:
        Their paths, in the same order.

    Raises:
        DataError: a file is there with other content, or every address of one failed; the message says how, and the hint
            all that is still to be fetched by hand.
        StorageError: the disk is full, or the folder cannot be written. What has arrived is kept where there is room.
    """
    with making_folder(root):
        # All that is there is looked at before anything is fetched: gigabytes should not come before an error.
        lacking = [file for file in files if not _is_there(file, root / file.name)]
        for number, file in enumerate(lacking):
            failures = _have(file, root / file.name, progress or (lambda name, done, total: None))
            if failures:
                message = "\n    ".join([f"{file.name}: cannot be downloaded:", *failures])
                raise DataError(message, hint=by_hand(lacking[number:], root))
    return [root / file.name for file in files]


def _have(file: RemoteFile, target: Path, progress: Progress) -> list[str]:
    """Fetch a file from the first address that gives it; if none does, what each of them answered."""
    told = []
    with Part.claimed(target) as part:
        if part.waited and _is_there(file, target):
            return []  # somebody else has just fetched it
        for url in file.urls:
            try:
                _from(url, file, part, progress)
                part.publish()
                return []
            except _Failed as error:
                told.append(f"{url}: {error}")
    return told


def _is_there(file: RemoteFile, target: Path) -> bool:
    """Whether ``target`` is there, whole. One with other content was put there by somebody: it is not replaced."""
    if not target.exists():
        return False
    problem = file.mismatch(target)
    if problem is not None:
        raise DataError(
            f"{target}: {problem}",
            hint=f"It is damaged or another file. Move it away, and it is downloaded. Or: {by_hand([file], target.parent)}",
        )
    return True


class _Failed(Exception):
    """This address does not give the file."""


class _Passing(Exception):
    """This try failed, another may not."""


class _Unreachable(_Passing):
    """No connection to the host. Before the first byte of it, that means no network, and another try fails likewise."""


def _from(url: str, file: RemoteFile, part: Part, progress: Progress) -> None:
    """Fill ``part`` from one address. A whole file with a wrong checksum is fetched once more, from the start."""
    problem: str | None = ""
    for _ in range(2):
        _persist(url, file, part, progress)
        problem = file.mismatch(part.path)
        if problem is None:
            return
        part.restart()
    raise _Failed(problem)


def _persist(url: str, file: RemoteFile, part: Part, progress: Progress) -> None:
    """One transfer, taken up again after passing failures."""
    failures, received = 0, False
    while True:
        before = part.size
        try:
            return _transfer(url, file, part, progress)
        except _Passing as error:
            received |= part.size > before
            failures = 1 if part.size - before >= ENOUGH else failures + 1
            if isinstance(error, _Unreachable) and not received:
                raise _Failed(str(error)) from error
            if failures > len(PAUSES):
                raise _Failed(f"{error} ({failures} tries)") from error
            pause = PAUSES[failures - 1]
            log.info("%s: %s; trying again in %g s", file.name, error, pause)
            time.sleep(pause)


def _transfer(url: str, file: RemoteFile, part: Part, progress: Progress) -> None:
    """One request, for the whole file or for what is missing of it."""
    if file.checksum is None and part.validator(url) is None:
        part.restart()  # nothing would tell whether the two halves belong together
    if file.size is not None and part.size >= file.size:
        return
    with _answer(url, part) as response:
        if response is None:
            return  # the server says that there is no more
        chunk = _first(response, file)
        start = _start(response, part)
        total = start + int(response.headers["Content-Length"]) if response.headers["Content-Length"] else 0
        if file.size is not None and total and total != file.size:
            raise _Failed(f"found {total} bytes, expected {file.size}")
        if start == 0:
            part.restart(url, _validator(response.headers))
        _check_room(part.path, total - start)
        while chunk:
            part.write(chunk)
            progress(file.name, part.size, total)
            if file.size is not None and part.size > file.size:
                part.restart()
                raise _Failed(f"found more bytes than the expected {file.size}")
            chunk = _read(response)
    if part.size < total:
        raise _Passing(f"cut off after {part.size} of {total} bytes")
    if part.size == 0:
        raise _Failed("HTTP 200 without data")


@contextlib.contextmanager
def _answer(url: str, part: Part) -> Iterator[HTTPResponse | None]:
    """The answer with data, 200 or 206; None where the part is whole already."""
    _check_scheme(url)
    request = urllib.request.Request(url, headers={"User-Agent": f"lsg/{lsgcli.__version__}", "Accept-Encoding": "identity"})
    if part.size:
        request.add_header("Range", f"bytes={part.size}-")
        if validator := part.validator(url):
            request.add_header("If-Range", validator)
    response: HTTPResponse | None = None
    try:
        response = _opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, part)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        kind = _Unreachable if isinstance(error, urllib.error.URLError) else _Passing
        raise kind(f"no connection: {reason or type(reason).__name__}") from error
    except ValueError as error:  # an address that is none, perhaps of a redirect
        raise _Failed(str(error)) from error
    if response is None:
        yield None
        return
    with response:
        yield response


def _refused(error: urllib.error.HTTPError, part: Part) -> None:
    """Return if the refusal means that there is nothing left to fetch, and otherwise raise what it means."""
    if error.code == 416 and part.size:
        if error.headers.get("Content-Range", "").replace(" ", "") == f"bytes*/{part.size}":
            return
        part.restart()
        raise _Passing("HTTP 416: the part that was there does not belong to this file")
    kind = _Passing if error.code in PASSING else _Failed
    raise kind(f"HTTP {error.code} {error.reason}")


def _first(response: HTTPResponse, file: RemoteFile) -> bytes:
    """The first bytes, once it is sure that they are data: the part must not be given up for an error page."""
    if response.status not in (200, 206):
        raise _Failed(f"HTTP {response.status} without data: the host asks for a browser")
    chunk = _read(response)
    page = response.headers.get_content_type() == "text/html" or re.match(rb"\s*<(!doctype\s+html|html)\b", chunk, re.I)
    if page and not file.name.lower().endswith((".html", ".htm")):
        raise _Failed("found a web page instead of the file: the host asks for a browser")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _Failed(f"found content encoded as {response.headers['Content-Encoding']}, expected the file itself")
    return chunk


def _start(response: HTTPResponse, part: Part) -> int:
    """The byte that the answer begins with: 0, or where the part ends."""
    if response.status == 200:
        return 0
    match = re.match(r"bytes\s+(\d+)-", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != part.size:
        found = response.headers.get("Content-Range")
        expected = part.size
        part.restart()
        raise _Passing(f"HTTP 206: found the range {found!r}, expected it from byte {expected}")
    return part.size


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"cut off: {error or type(error).__name__}") from error


def _validator(headers: HTTPMessage) -> str | None:
    """What tells this version of the file from others; a weak ETag does not."""
    etag = headers["ETag"]
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _check_room(path: Path, length: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if length > free:
        raise StorageError(
            f"{path}: needs {length:,} bytes more, found {free:,} free",
            hint="Make room, or give --data-dir a folder on another disk; what has arrived is kept.",
        )


def _check_scheme(url: str) -> None:
    if not url.lower().startswith(("http://", "https://")):
        raise _Failed("found an address that is neither http nor https")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_scheme(newurl)
        except _Failed:
            fp.close()
            raise _Failed(f"HTTP {code}: found a redirect to {newurl}, expected http or https") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> Any:
    """HTTP, HTTPS and the system's proxies; unlike urllib's default, neither FTP nor files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
