"""Plug-ins: entries of other packages, given by entry points of the groups ``lsg.<kind>``, and errors that name them."""

import linecache
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli.errors import ConfigError, LsgError

GROUP = "lsg."
_loaded: list[EntryPoint] = []


class Call(NamedTuple):
    """A call in a traceback."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        return f"{self.file}, line {self.line}, in {self.function}" + (f": {text}" if text else "")


class PluginError(ConfigError):
    """A mistake in a plug-in; the message names its entry point and package, the hint shows the lines of its code."""


@cache
def installed() -> dict[tuple[str, str], tuple[EntryPoint, ...]]:
    """(kind, name) -> entry points with this name, more than one if packages conflict. Packages are scanned once."""
    points: dict[tuple[str, str], tuple[EntryPoint, ...]] = {}
    all_points = entry_points()
    for group in all_points.groups:
        if group.startswith(GROUP):
            for point in all_points.select(group=group):
                key = group.removeprefix(GROUP), point.name
                points[key] = (*points.get(key, ()), point)
    return points


def described(point: EntryPoint) -> str:
    """``entry point cosine = my_package.cosine:cosine (group lsg.surrogate) of my-package 0.1``."""
    package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"entry point {point.name} = {point.value} (group {point.group}){package}"


def load(point: EntryPoint, accept: Callable[[Any], Any]) -> Any:
    """The object that an entry point names, after ``accept`` has been called with it.

    Raises:
        PluginError: it cannot be imported, does not exist, or is not accepted.
    """
    _loaded.append(point)
    try:
        return accept(point.load())
    except (Exception, SystemExit) as error:
        package = point.dist.name if point.dist else point.module
        hint = f"Correct the entry point and install the package again, or remove it: pip uninstall {package}"
        raise PluginError(f"{described(point)}: {_said(error)}", hint=_lines(error, point) or hint) from error


def exists(point: EntryPoint) -> bool:
    """Whether the module of an entry point exists and its source text contains the name of the object. Imports nothing."""
    spec = None
    for depth in range(point.module.count(".") + 1):
        name = ".".join(point.module.split(".")[: depth + 1])
        spec = _spec(name, None if spec is None else spec.submodule_search_locations)
        if spec is None:
            return False
    try:
        source = spec.loader.get_source(point.module)  # type: ignore[union-attr]
    except (AttributeError, ImportError, OSError, SyntaxError):
        source = None
    attribute = (point.attr or "").partition(".")[0]
    return source is None or not attribute or re.search(rf"\b{attribute}\b|import \*", source) is not None


def _spec(name: str, path: Any) -> ModuleSpec | None:
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return next((spec for find in finders if find and (spec := find(name, path))), None)


def blamed(error: BaseException) -> PluginError | None:
    """A PluginError for an unexpected error in the code of a plug-in; None if the traceback contains no such code."""
    for call in reversed(_calls(error)):
        if own := [point for point in _loaded if Path(call.file).is_relative_to(_home(point))]:
            named = [point for point in own if point.attr and point.attr == call.function.partition(".")[0]]
            points = " and ".join(dict.fromkeys(map(described, named or own)))
            return PluginError(f"{points}: {_said(error)}", hint=_lines(error, own[0]))
    return None


def _home(point: EntryPoint) -> Path:
    """The folder of a plug-in's package, or the file of its single module."""
    spec = _spec(point.module.partition(".")[0], None)
    file = Path((spec and spec.origin) or f"/{point.module}")
    return file.parent if file.name == "__init__.py" else file


def _calls(error: BaseException) -> list[Call]:
    """The calls that led to an error, including those in a worker process, whose traceback is only text."""
    calls = [Call(f.f_code.co_filename, line, f.f_code.co_qualname) for f, line in traceback.walk_tb(error.__traceback__)]
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        remote = re.findall(r'File "(.+)", line (\d+), in (\S+)', str(error.__cause__))
        calls += [Call(file, int(line), function) for file, line, function in remote]
    if isinstance(error, SyntaxError) and error.filename:
        calls.append(Call(error.filename, error.lineno or 0, "<module>"))
    return calls


def _lines(error: BaseException, point: EntryPoint) -> str | None:
    """The lines of a plug-in's code that led to an error, from the outermost call, and the place where it was raised."""
    home, calls = _home(point), _calls(error)
    own = [call for call in calls if Path(call.file).is_relative_to(home)]
    if own and own[-1] != calls[-1] and not isinstance(error, LsgError):
        own.append(calls[-1])
    return "\n  ".join(map(str, own)) or None


def _said(error: BaseException) -> str:
    """Type and message of an error, in one line."""
    text = error.message if isinstance(error, LsgError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).removesuffix(":")
