"""Requests to web servers: http and https only, also after redirects, with a minimum transfer rate.

urllib limits the time of each read alone, so it waits forever for a server that sends a byte now and then, reads the whole body
of a redirect, and follows redirects to ftp.
"""

import http.client
import io
import time
import urllib.error
import urllib.request
from typing import Any

from lsgcli.system.interpreter import __version__

PERIOD = 60.0  # seconds over which the rate is measured
LEAST = 600_000  # bytes of content in a period, 10 kB/s; the size of a file therefore limits the time of its download


class TooSlow(OSError):
    """The transfer rate of a server is below the minimum."""


class _Paced(io.RawIOBase):
    """The bytes from a server. Raises TooSlow if ``content``, the bytes without headers, grows too slowly in a period."""

    def __init__(self, raw: Any):
        self.raw, self.since, self.content = raw, time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self.raw.readinto(buffer)
        if (seconds := time.monotonic() - self.since) >= PERIOD:
            if self.content < LEAST * seconds / PERIOD:
                found = f"found {self.content:,} bytes in {seconds:.0f} s"
                raise TooSlow(f"too slow: {found}, expected at least {LEAST / PERIOD / 1000:.0f} kB/s")
            self.since = time.monotonic()
            self.content = 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.paced = _Paced(self.fp.detach())  # type: ignore[attr-defined]
        self.fp = io.BufferedReader(self.paced)

    def read1(self, n: int = -1) -> bytes:
        chunk = super().read1(n)
        self.paced.content += len(chunk)
        return chunk


class _Http(http.client.HTTPConnection):
    response_class = _Response


class _Https(http.client.HTTPSConnection):
    response_class = _Response


class _WebOnly(urllib.request.HTTPRedirectHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def default_open(self, request: urllib.request.Request) -> None:
        """Called before each request, also those of redirects."""
        if request.type not in ("http", "https"):
            raise urllib.error.URLError(f"found the address {request.full_url}, expected http or https")

    def http_error_302(self, request: Any, response: Any, *about: Any) -> Any:
        response.close()  # urllib reads its body to the end
        return super().http_error_302(request, response, *about)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302  # type: ignore[assignment]

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Http, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Https, request)


def request(url: str, start: int, timeout: float) -> Any:
    """The response to a request for a file's bytes from ``start`` on, as of :func:`urllib.request.urlopen`.

    Args:
        timeout: seconds without a byte.

    Raises:
        OSError, http.client.HTTPException, ValueError: as urlopen; reading the response may also raise :class:`TooSlow`.
    """
    headers = {"User-Agent": f"lsg/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_WebOnly)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
