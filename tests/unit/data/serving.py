"""A web server in a thread, for tests of downloads."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """Paths -> functions of a handler; remembers what was asked for."""

    def __init__(self):
        self.pages, self.requests = {}, []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                site.requests.append((self.path, dict(self.headers)))
                site.pages.get(self.path, status(404))(self)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"

    def ranges(self, path):
        """The Range headers of all requests for a path; None for a request of the whole."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


def reply(handler, code, body=b"", length=None, **headers):
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def status(code, body=b"", **headers):
    return lambda handler: reply(handler, code, body, **headers)


def whole(content, **headers):
    """A server without Range support."""
    return lambda handler: reply(handler, 200, content, **headers)


def ranged(content):
    """A server with Range support."""

    def page(handler):
        asked = handler.headers.get("Range")
        if asked is None:
            return reply(handler, 200, content)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return reply(handler, 416, Content_Range=f"bytes */{len(content)}")
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return reply(handler, 206, content[start:], Content_Range=span)

    return page


def in_turn(*pages):
    """Another answer for each request; the last one stays."""
    left = list(pages)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def cut(content, at):
    """A connection that breaks after ``at`` bytes."""
    return lambda handler: reply(handler, 200, content[:at], length=len(content))
