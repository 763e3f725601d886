"""Registry of named classes and functions, such as surrogates, architectures and data sets.

A *kind* ("surrogate", "arch", "dataset", ...) is a module or a folder of modules of this package. Its entries are classes, functions or
objects registered under a literal name::

    @register("surrogate", "triangular")
    def triangular(x, width): ...

    reference = register("backend", "reference")(Reference())

An entry called ``prefix:NAME`` stands for the entries of another package: its class method ``of`` returns the one with a name.

Names are read from the source text, so that help pages and completion list them without importing torch. Other packages add
entries through entry points of the group ``lsg.<kind>``, scripts through the decorator.
"""

import difflib
import importlib
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from lsgcli.errors import ConfigError

ROOT = Path(__file__).parent
PLACES = {  # relative to the package: a folder, or a module without .py
    "surrogate": "neurons/surrogates",
    "method": "neurons/methods",
    "neuron": "neurons/variants",
    "norm": "neurons/tdbn",
    "backend": "neurons/kernels",
    "arch": "models",
    "dataset": "data/datasets",
    "reader": "data/readers",
    "augmentation": "data/augment",
    "loss": "training/losses",
    "format": "export",
    "picture": "report",
    "launcher": "ablation/launchers",
    "logger": "loggers",
}
REGISTERED = re.compile(rb'register\("([\w-]+)", "([\w:-]+)"\)')  # starts with a literal, which makes the search fast

NAME = "NAME"

_entries: dict[tuple[str, str], Any] = {}
T = TypeVar("T")


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator that registers a class or function as the entry ``name`` of ``kind``: ``@lsg.register("method", "half")``.

    Args:
        kind: ``method``, ``surrogate``, ``arch``, ``dataset``, ...; the error of an unknown kind lists them.

    Raises:
        ValueError: the kind is unknown, or another module has registered the name.
    """
    if kind not in PLACES:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(sorted(PLACES))}")

    def decorate(entry: T) -> T:
        known = _entries.get((kind, name))
        if known is not None and getattr(known, "__module__", None) != getattr(entry, "__module__", None):
            raise ValueError(f"{kind} {name!r} is registered twice: {known.__module__} and {entry.__module__}")
        _entries[kind, name] = entry
        return entry

    return decorate


@cache
def _modules(kind: str) -> dict[str, str]:
    """Name -> module of each entry of a kind in this package."""
    place = ROOT / PLACES[kind]
    found: dict[str, str] = {}
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found |= {name.decode(): module for of, name in REGISTERED.findall(file.read_bytes()) if of == kind.encode()}
    return found


@cache
def _plugins() -> dict[tuple[str, str], EntryPoint]:
    """(kind, name) -> entry point of each entry in other packages; the installed packages are scanned once."""
    installed = entry_points()
    return {(kind, point.name): point for kind in PLACES for point in installed.select(group=f"lsg.{kind}")}


def names(kind: str) -> list[str]:
    """All names of a kind, sorted, without importing the entries."""
    return sorted({*_modules(kind), *(name for k, name in (*_plugins(), *_entries) if k == kind)})


def known(kind: str, name: str) -> bool:
    """Whether a kind has the entry ``name``. What may follow the colon of ``prefix:NAME``, only :func:`get` finds out."""
    prefix, _, rest = name.partition(":")
    return rest != NAME and (f"{prefix}:{NAME}" if rest else name) in names(kind)


def get(kind: str, name: str) -> Any:
    """The entry ``name`` of a kind.

    Raises:
        ConfigError: no such name; the message suggests similar names.
    """
    prefix, _, rest = name.partition(":")
    if rest and known(kind, name):
        return get(kind, f"{prefix}:{NAME}").of(rest)
    if (kind, name) not in _entries:
        if name in _modules(kind):
            importlib.import_module(_modules(kind)[name])
        elif (kind, name) in _plugins():
            register(kind, name)(_plugins()[kind, name].load())
        else:
            raise ConfigError(unknown(kind, name, names(kind)))
    return _entries[kind, name]


def unknown(what: str, name: str, known: list[str]) -> str:
    """A message that ``name`` is unknown, with similar names or all of them."""
    lower = {one.lower(): one for one in known}
    near = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)]
    return f"unknown {what} {name!r}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    )
