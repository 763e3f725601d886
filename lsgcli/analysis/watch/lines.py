"""Lines of the user's own code, at which findings point."""

import functools
import linecache
import math
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from lsgcli.analysis.watch.guard import frame_outside
from lsgcli.analysis.watch.modules import attributes, is_plain, is_tensor, states, tensors

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


@functools.cache
def of_user(file: str) -> bool:
    """Whether code is the user's: not of Python, of an installed package, or of lsg."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = str(Path(file).resolve())
    return "site-packages" not in path and "dist-packages" not in path and not path.startswith(LIBRARIES)


def here(built: object = None) -> Line | None:
    """The innermost line of the user's code on the stack, outside the ``__init__`` methods of what is ``built``; None if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        builds = code.co_name == "__init__" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is built
        if of_user(code.co_filename) and not builds:
            return Line(code.co_filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def calling() -> Line | None:
    """The line that calls what is observed, if it is the user's; None if it is another package's."""
    frame = frame_outside()
    return Line(frame.f_code.co_filename, frame.f_lineno) if frame and of_user(frame.f_code.co_filename) else None


def search(pattern: str, files: Iterable[str]) -> Iterator[Line]:
    """The lines of files in which a regular expression matches."""
    for file in files:
        for number, text in enumerate(linecache.getlines(file), start=1):
            if re.search(pattern, text):
                yield Line(file, number)


class Operand(NamedTuple):
    """A tensor of a call that failed."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {self.shape}, {self.low:.3g} to {self.high:.3g}"


def of_error(error: BaseException) -> tuple[Line | None, list[Operand]]:
    """The innermost line of the user's code in the traceback of an error, and the tensors that it names, or that functions behind it are given."""
    found: Line | None = None
    given: dict[int, Operand] = {}
    for frame, number in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        names = frame.f_locals if found and not file.startswith(str(PACKAGE)) else {}
        if of_user(file):
            found = Line(file, number)
            given = {}
            used = re.findall(r"\w+", re.sub(r"^[\w., ]+=(?!=)", "", found.source))  # without what is assigned
            names = {name: frame.f_locals[name] for name in used if name in frame.f_locals}
        for name, value in names.items():
            for tensor in _tensors_of(value):
                given.setdefault(id(tensor), _operand(name, tensor))
    return found, list(given.values())


def _tensors_of(value: Any) -> Iterator[Tensor]:
    """A tensor, those of a tuple, or those that a module keeps beside its parameters."""
    if issubclass(type(value), nn.Module) and "_buffers" in attributes(value):  # it is built: deepcopy() may fail before
        yield from states(value, ())
    elif issubclass(type(value), Tensor | tuple):
        for part in tensors(value, is_tensor):
            if part.numel() and not isinstance(part, nn.Parameter):
                yield part


def _operand(name: str, tensor: Tensor) -> Operand:
    low = high = math.nan
    if is_plain(tensor):
        with suppress(RuntimeError):  # as of tensors of a device that has failed
            low, high = map(float, tensor.detach().double().aminmax())
    return Operand(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), low, high)
