"""Registry of named classes and functions, such as surrogates, architectures and data sets.

A *kind* ("surrogate", "arch", "dataset", ...) is a module or a folder of modules of this package. Its entries are classes, functions or
objects registered under a literal name::

    @register("surrogate", "triangular")
    def triangular(x, width): ...

    reference = register("backend", "reference")(Reference())

An entry called ``prefix:NAME`` stands for all entries of another package; its class method ``of`` returns the entry with a given name.

Names are read from the source text, so that help pages and completion list them without importing torch. Other packages add
entries through entry points of the group ``lsg.<kind>``, scripts through the decorator.
"""

import ast
import difflib
import importlib
import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lsgcli.errors import ConfigError, LsgError

ROOT = Path(__file__).parent
PLACES = {  # relative to the package: a folder, or a module without .py
    "surrogate": "neurons/surrogates",
    "method": "neurons/methods",
    "neuron": "neurons",
    "norm": "neurons/norms",
    "backend": "neurons/kernels",
    "arch": "models",
    "dataset": "data/datasets",
    "reader": "data/readers",
    "augmentation": "data/augment",
    "rule": "analysis/rules",
    "loss": "training/losses",
    "format": "export",
    "picture": "report",
    "launcher": "sweeps/launchers",
    "logger": "loggers",
}
# Kind -> ``module:class`` of the base class, and what an entry is if it is not a subclass. Entries of all other kinds are functions.
BASES = {
    "method": ("neurons.methods:Method", "an instance of Method"),
    "neuron": ("neurons.models:Neuron", ""),
    "backend": ("neurons.kernels.base:Backend", "an instance of a subclass of Backend"),
    "arch": ("models.base:SpikingNet", ""),
    "dataset": ("data.datasets.base:Dataset", ""),
    "reader": ("data.readers.base:Reader", "a function decorated with @reader"),
    "augmentation": ("data.augment.base:Named", "a function decorated with @augmentation or @EventAugmentation"),
    "rule": ("analysis.rules.base:Rule", ""),
    "format": ("export.base:Format", ""),
    "picture": ("report.figures:Picture", "a function decorated with @picture"),
    "launcher": ("sweeps.launchers.base:Launcher", ""),
    "logger": ("loggers.base:Logger", ""),
}
REGISTERED = re.compile(rb'register\("([\w-]+)", "([\w:-]+)"\)')  # starts with a literal, which makes the search fast

PLUGIN = "it is a plug-in, see docs/plugins in the repository (`pip install ./docs/plugins`)"
# Names that versions before 0.1.0 had.
REMOVED = {"pmsn": "only versions of lsg before 0.1.0 have it", "max-resnet18-2222": PLUGIN, "sequential-cnn": PLUGIN}
NAME = "NAME"
GROUP = "lsg."

_entries: dict[tuple[str, str], Any] = {}
_loaded: list[EntryPoint] = []
T = TypeVar("T")


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator that registers a class or function as the entry ``name`` of ``kind``: ``@lsg.register("method", "half")``.

    Args:
        kind: ``method``, ``surrogate``, ``arch``, ``dataset``, ...; the error of an unknown kind lists them.

    Raises:
        ValueError: the kind is unknown, or another module has registered the name.
        ConfigError: the entry is not of the type that its kind requires, or lacks methods or attributes.
    """
    if kind not in PLACES:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(sorted(PLACES))}")

    def decorate(entry: T) -> T:
        if not str(getattr(entry, "__module__", "")).startswith(f"{__package__}."):
            _check(kind, name, entry)
        known = _entries.get((kind, name))
        if known is not None and getattr(known, "__module__", None) != getattr(entry, "__module__", None):
            raise ValueError(f"{kind} {name!r} is registered twice: {known.__module__} and {entry.__module__}")
        _entries[kind, name] = entry
        return entry

    return decorate


@cache
def _modules(kind: str) -> dict[str, str]:
    """Name -> module of each entry of a kind in this package."""
    path = ROOT / PLACES[kind]
    modules: dict[str, str] = {}
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules |= {name.decode(): module for of, name in REGISTERED.findall(file.read_bytes()) if of == kind.encode()}
    return modules


def _check(kind: str, name: str, entry: Any) -> None:
    """Check that an entry of another package is of the type that its kind requires."""
    prefix = f"{kind} {name!r}: found {getattr(entry, '__qualname__', None) or repr(entry)}"
    if kind not in BASES:
        if not callable(entry):
            raise ConfigError(f"{prefix}, expected a function")
        return
    (module, _, base_name), expected = BASES[kind][0].partition(":"), BASES[kind][1]
    base = getattr(importlib.import_module(f"{__package__}.{module}"), base_name)
    if not (isinstance(entry, base) if expected else isinstance(entry, type) and issubclass(entry, base)):
        raise ConfigError(f"{prefix}, expected {expected or f'a subclass of {base_name}'}, from {__package__}.{module}")
    if isinstance(entry, type):
        declared = {
            attribute: annotation
            for parent in entry.__mro__
            for attribute, annotation in inspect.get_annotations(parent).items()
        }
        lacking = {
            attribute
            for attribute, annotation in declared.items()
            if "ClassVar" in str(annotation) and not hasattr(entry, attribute)
        }
        if lacking := lacking | set(getattr(entry, "__abstractmethods__", ())):
            raise ConfigError(f"{prefix}, expected it to define {', '.join(sorted(lacking))}, as every subclass of {base_name}")


@cache
def _contradictions() -> dict[tuple[str, str], str]:
    """(kind, name) -> the places that define it, for each name that several packages define."""
    conflicts = {}
    for (kind, name), points in installed().items():
        own = [f"{__package__} itself"] if kind in PLACES and name in _modules(kind) else []
        places = list(dict.fromkeys([*own, *map(described, points)]))
        if len(places) > 1:
            conflicts[kind, name] = " and in ".join(places)
    return conflicts


def names(kind: str) -> list[str]:
    """All names of a kind, sorted, without importing the entries. Entry points whose object does not exist are left out."""
    added = {name for (of, name), points in installed().items() if of == kind and all(map(exists, points))}
    return sorted({*_modules(kind), *added, *(name for of, name in _entries if of == kind)})


def known(kind: str, name: str) -> bool:
    """Whether a kind has the entry ``name``. Of ``prefix:NAME``, only the prefix is checked; :func:`get` checks the rest."""
    prefix, _, rest = name.partition(":")
    listed = f"{prefix}:{NAME}" if rest else name
    return rest != NAME and (listed in _modules(kind) or (kind, listed) in _entries or (kind, listed) in installed())


def get(kind: str, name: str) -> Any:
    """The entry ``name`` of a kind.

    Raises:
        ConfigError: the name is unknown (the message suggests similar names), several packages define it, or a plug-in cannot be loaded.
    """
    if places := _contradictions().get((kind, name)):
        raise ConfigError(
            f"{kind} {name!r}: found in {places}, expected one", hint="Rename an entry, or uninstall its package."
        )
    if (kind, name) in _entries:
        return _entries[kind, name]
    prefix, _, rest = name.partition(":")
    if rest and known(kind, name):
        return get(kind, f"{prefix}:{NAME}").of(rest)
    if (kind, name) in installed():
        return loaded(installed()[kind, name][0], register(kind, name))
    if name not in _modules(kind):
        raise ConfigError(unknown(kind, name, names(kind)))
    importlib.import_module(_modules(kind)[name])
    return _entries[kind, name]


def summary(kind: str, name: str) -> str:
    """The first line of the docstring of an entry, or the title of a data set. Imports only entries that have none in the source text."""
    if kind != "dataset" and (kind, name) not in _entries and (lines := _summaries(kind, _modules(kind).get(name))).get(name):
        return lines[name]
    entry = get(kind, name)
    record = not isinstance(entry, type)  # around a function
    documented = getattr(entry, "apply", getattr(entry, "parse", entry)) if record else entry
    text: str = getattr(entry, "title", "") or documented.__doc__ or ""
    return text.strip().partition("\n")[0]


@cache
def _summaries(kind: str, module: str | None) -> dict[str, str]:
    """Name -> first line of the docstring of each decorated class and function of a kind in a module of this package."""
    lines = {}
    file = ROOT.parent.joinpath(*(module or "").split("."))
    source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    for node in ast.parse(source.read_bytes()).body if module else ():
        for mark in getattr(node, "decorator_list", ()):
            if isinstance(mark, ast.Call) and [getattr(argument, "value", None) for argument in mark.args][:1] == [kind]:
                lines[mark.args[1].value] = (ast.get_docstring(node) or "").partition("\n")[0]  # type: ignore[attr-defined,arg-type]
    return lines


def unknown(what: str, name: str, known: list[str]) -> str:
    """A message that ``name`` is unknown, with similar names or all of them."""
    if name in REMOVED:
        return f"unknown {what} {name!r}: {REMOVED[name]}"
    lower = {candidate.lower(): candidate for candidate in known}
    near = [lower[candidate] for candidate in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)]
    return f"unknown {what} {name!r:.200}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    )


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


def loaded(point: EntryPoint, accept: Callable[[Any], Any]) -> Any:
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
        raise PluginError(f"{described(point)}: {_said(error)}", hint=_led_to(error, point) or hint) from error


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
            return PluginError(f"{points}: {_said(error)}", hint=_led_to(error, own[0]))
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


def _led_to(error: BaseException, point: EntryPoint) -> str | None:
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
