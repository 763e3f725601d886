"""The process that compiles charts, started by path: imports nothing of lsgcli. Its client is ``compiler.py``."""

import signal
import sys
from multiprocessing.connection import Connection


def serve() -> None:
    """Call functions of ``vl_convert``, as a socket at standard input asks, until its other end is closed.

    A request has the name of a function, its arguments, and its named arguments. The answer is what it returns or raises.
    """
    # A scheduler sends these to each process of a job. The page of a job that they stop is still to be drawn.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    sys.path += sys.argv[1:]
    client = Connection(sys.stdin.fileno())
    while True:
        try:
            name, arguments, named = client.recv()
        except EOFError:
            return
        try:
            import vl_convert

            answer = getattr(vl_convert, name)(*arguments, **named)
        except Exception as error:
            answer = error
        client.send(answer)


if __name__ == "__main__":
    serve()
