"""Lines of the user's own code, at which findings point."""

import functools
import linecache
import math
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from lsgcli.analysis.watch.neurons import states
from lsgcli.analysis.watch.tensors import tensors

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
    if isinstance(value, nn.Module) and "_buffers" in vars(value):  # it is built: deepcopy() may fail before
        yield from states(value, ())
    elif isinstance(value, Tensor | tuple):
        for part in tensors(value):
            if part.numel() and not isinstance(part, nn.Parameter):
                yield part


def _operand(name: str, tensor: Tensor) -> Operand:
    low = high = math.nan
    if not tensor.is_complex():  # which has no order, but would be cast to its real part
        with suppress(RuntimeError):  # as of sparse tensors, and of those of a device that has failed
            low, high = map(float, tensor.detach().double().aminmax())
    return Operand(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), low, high)
