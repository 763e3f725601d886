"""A row of web servers that send too much, too slowly, something else, or lie about it."""

import contextlib
import hashlib
import itertools
import random
import shutil
import socket
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

from benchmarks.stress.rows import Case, row
from lsgcli.data import download, web
from lsgcli.errors import DataError

PERIOD, TIMEOUT = 0.5, 0.5  # seconds, instead of a minute and 30 s
SECONDS = 15  # until the end of all attempts at an address, of which there are 4
BUFFERS = 24 << 20  # bytes on their way in sockets when a client closes one, in all attempts
BLOCK = bytes(1 << 16)
Answer = Callable[[bytes], Iterable[bytes]]  # of a complete file

OK, HEADERS_END = b"HTTP/1.1 200 OK\r\n", b"\r\n"
LENGTH = b"Content-Length: %d\r\n"


def endless(*first: bytes) -> Iterator[bytes]:
    return itertools.chain(first, itertools.repeat(BLOCK))


def crawling(*first: bytes) -> Iterator[bytes]:
    """The given bytes and then one at a time."""
    yield from first
    while True:
        time.sleep(0.02)
        yield b"a"


def redirect(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n"


def to_others() -> Iterator[bytes]:
    """A redirect to an address that was not seen yet."""
    yield redirect(b"/%d" % time.monotonic_ns())


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANY: dict[str, Answer] = {
    "zeros without end": lambda file: endless(OK, HEADERS_END),
    "zeros with a length of 1 TB": lambda file: endless(OK, LENGTH % 10**12, HEADERS_END),
    "zeros with a length of 31 digits": lambda file: endless(OK, LENGTH % 10**30, HEADERS_END),
    "zeros with a negative length": lambda file: endless(OK, LENGTH % -5, HEADERS_END),
    "the file without end": lambda file: endless(OK, HEADERS_END, file),
    "half of the file at the full length": lambda file: [OK, LENGTH % len(file), HEADERS_END, file[: len(file) // 2]],
    "half of the file at half the length": lambda file: [OK, LENGTH % (len(file) // 2), HEADERS_END, file],
    "one chunk without end": lambda file: endless(CHUNKED, b"ffffffffffff\r\n"),
    "a size of a chunk without end": lambda file: itertools.chain([CHUNKED], itertools.repeat(b"0" * 4096)),
    "a negative size of a chunk": lambda file: endless(CHUNKED, b"-5\r\n"),
    "trailers without end": lambda file: itertools.chain([CHUNKED, b"1\r\na\r\n0\r\n"], itertools.repeat(b"a: b\r\n" * 999)),
    "a byte at a time": lambda file: crawling(OK, HEADERS_END, file[:99]),
    "a byte at a time, with a length": lambda file: crawling(OK, LENGTH % len(file), HEADERS_END, file[:99]),
    "headers a byte at a time": lambda file: crawling(OK),
    "a status line a byte at a time": lambda file: crawling(b"HTTP/1.1 200 "),
    "headers without end": lambda file: itertools.chain([OK], (b"a%d: b\r\n" % n for n in itertools.count())),
    "a header without end": lambda file: itertools.chain([OK, b"a: "], itertools.repeat(b"b" * 4096)),
    "interim responses without end": lambda file: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    "silence": lambda file: itertools.chain([OK], (time.sleep(9) or b"" for _ in range(1))),
    "a redirect to ftp": lambda file: [redirect(b"ftp://127.0.0.1/data.zip")],
    "a redirect to a file": lambda file: [redirect(b"file:///etc/passwd")],
    "a redirect to no address": lambda file: [redirect(b"http://[::1")],
    "a redirect to itself": lambda file: [redirect(b"/file")],
    "redirects without end": lambda file: to_others(),
    "a redirect with a body without end": lambda file: endless(redirect(b"/file")),
    "no HTTP": lambda file: endless(b"\x16\x03\x01"),
}


class Server:
    """Answers each connection with the bytes of ``answer``; ``sent`` counts those that the system took."""

    def __init__(self, answer: Callable[[], Iterable[bytes]]):
        self.answer, self.sent = answer, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/file"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._reply, args=self.listening.accept()[:1], daemon=True).start()

    def _reply(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(1 << 16)
            for block in self.answer():
                connection.sendall(block)
                self.sent += len(block)

    def close(self) -> None:
        self.listening.close()


@row(
    55,
    fault="a web server sends without end, crawls, redirects to another protocol, or lies about a length",
    promise="status 3 and a message that names the address; ends in a bounded time, and no complete file is left",
    quick=10,
    full=2 * len(ANY),
)
def servers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Servers of a data set's archive on this machine: content, chunks, headers, trailers, interim responses and redirects without end;
    each a byte at a time; silence; lengths that are too large, too small, negative; redirects to ftp, to a file, to themselves. With a
    period of 0.5 s instead of a minute, all must end within 15 s, and take no more than the sockets buffer beyond what the file may
    have."""
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("a", chance.randbytes(100_000))
    content, names = (folder / "data.zip").read_bytes(), list(ANY)
    order = [names[k % len(ANY)] for k in chance.sample(range(max(count, len(ANY))), count)]
    with (
        mock.patch.object(web, "PERIOD", PERIOD),
        mock.patch.object(download, "TIMEOUT", TIMEOUT),
        mock.patch.object(download, "PAUSES", (0.0, 0.0, 0.0)),
    ):
        for name in order:
            yield Case(name, _problem(lambda name=name: ANY[name](content), content, folder))  # type: ignore[misc]
            shutil.rmtree(folder / "data", ignore_errors=True)


def odd(status: bytes, *more: bytes) -> Answer:
    return lambda file: [b"HTTP/1.1 ", status, b"\r\n", *more]


EMPTY = LENGTH % 0 + HEADERS_END
ODD: dict[str, Answer] = {
    "416 at once": odd(b"416 Range Not Satisfiable", EMPTY),
    "416 with a length of 10^18": odd(b"416 Range Not Satisfiable", LENGTH % 10**18, HEADERS_END),
    "a length of 10^18": odd(b"200 OK", LENGTH % 10**18, HEADERS_END, b"{}"),
    "a part of 10^18 bytes": odd(
        b"206 Partial Content", LENGTH % 10**18, b"Content-Range: bytes 0-9/%d\r\n" % 10**18, HEADERS_END
    ),
    "JSON": odd(b"200 OK", b"Content-Type: application/json\r\n", LENGTH % 2, HEADERS_END, b"{}"),
    "a list": odd(b"200 OK", b"Content-Type: application/json\r\n", LENGTH % 6, HEADERS_END, b"[null]"),
    "304": odd(b"304 Not Modified", EMPTY),
    "200 without content": odd(b"200 OK", EMPTY),
    "a status of text": odd(b"OK OK", EMPTY),
    "a status of 999": odd(b"999 Odd", EMPTY),
    "an ETag that is none": odd(b"200 OK", b"ETag: \r\n", LENGTH % 2, HEADERS_END, b"{}"),
}


@row(
    68,
    fault="servers that answer 416 at once, state 10^18 bytes, send JSON of another form",
    promise="status 3, without a warning of a library; no file is left",
    quick=len(ODD),
    full=len(ODD),
)
def odd_answers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Servers of a data set's archive on this machine."""
    with mock.patch.object(download, "PAUSES", (0.0, 0.0, 0.0)):
        for name, answer in itertools.islice(ODD.items(), count):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                problem = _problem(lambda a=answer: a(b""), b"the data", folder)  # type: ignore[misc]
            yield Case(name, problem or "".join(f"warned: {one.message}" for one in warned))
            shutil.rmtree(folder / "data", ignore_errors=True)


def _problem(answer: Callable[[], Iterable[bytes]], content: bytes, folder: Path) -> str:
    server = Server(answer)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    file = download.RemoteFile("data.zip", (server.url,), md5, len(content))
    begin = time.monotonic()
    try:
        download.fetch([file], folder / "data")
        return "not noticed"
    except DataError as error:
        seconds = time.monotonic() - begin
        kept = list(folder.rglob("data/*"))
        size = sum(path.stat().st_size for path in kept)
        if server.url not in str(error):
            return f"the message lacks the address: {error}"
        if seconds > SECONDS or server.sent > BUFFERS + len(content):
            return f"{seconds:.1f} s, {server.sent:,} bytes sent: {error}"
        if size > len(content) or any(path.suffix != ".part" for path in kept):
            return f"{size:,} bytes in {kept}: {error}"
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        server.close()
