"""Lines of the user's own code, at which findings point."""

import functools
import linecache
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2]  # lsgcli
LIBRARIES = (*{sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}, str(PACKAGE))


class Line(NamedTuple):
    """A line of a file of the user."""

    file: str
    line: int

    @property
    def source(self) -> str:
        """The text of the line, without indentation; empty if the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def record(self) -> dict[str, str | int]:
        """As JSON."""
        return {"file": self.file, "line": self.line}


@functools.cache
def of_user(file: str) -> bool:
    """Whether code is the user's: not of Python, of an installed package, or of lsg."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = str(Path(file).resolve())
    return "site-packages" not in path and "dist-packages" not in path and not path.startswith(LIBRARIES)


def here(depth: int = 1) -> Line | None:
    """The innermost line of the user's code on the stack, from ``depth`` frames above; None if there is none."""
    frame = sys._getframe(depth)
    while frame is not None:
        if of_user(frame.f_code.co_filename):
            return Line(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def of_error(error: BaseException) -> Line | None:
    """The innermost line of the user's code in the traceback of an error."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if of_user(trace.tb_frame.f_code.co_filename):
            found = Line(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def here_of(built: object) -> Line | None:
    """The line that builds an object, outside the ``__init__`` methods of its classes; None if it is not the user's."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        own = code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is built
        if of_user(code.co_filename) and not own:
            return Line(code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None
