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
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lsgcli import plugins
from lsgcli.errors import ConfigError

ROOT = Path(__file__).parent
PLACES = {  # relative to the package: a folder, or a module without .py
    "surrogate": "neurons/surrogates",
    "method": "neurons/methods",
    "neuron": "neurons/models",
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
    "rule": ("analysis.rules:Rule", ""),
    "format": ("export.base:Format", ""),
    "picture": ("report.figures:Picture", "a function decorated with @picture"),
    "launcher": ("sweeps.launchers.base:Launcher", ""),
    "logger": ("loggers.base:Logger", ""),
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
    for (kind, name), points in plugins.installed().items():
        own = [f"{__package__} itself"] if kind in PLACES and name in _modules(kind) else []
        places = list(dict.fromkeys([*own, *map(plugins.described, points)]))
        if len(places) > 1:
            conflicts[kind, name] = " and in ".join(places)
    return conflicts


def names(kind: str) -> list[str]:
    """All names of a kind, sorted, without importing the entries. Entry points whose object does not exist are left out."""
    added = {name for (of, name), points in plugins.installed().items() if of == kind and all(map(plugins.exists, points))}
    return sorted({*_modules(kind), *added, *(name for of, name in _entries if of == kind)})


def known(kind: str, name: str) -> bool:
    """Whether a kind has the entry ``name``. Of ``prefix:NAME``, only the prefix is checked; :func:`get` checks the rest."""
    prefix, _, rest = name.partition(":")
    listed = f"{prefix}:{NAME}" if rest else name
    return rest != NAME and (listed in _modules(kind) or (kind, listed) in _entries or (kind, listed) in plugins.installed())


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
    if (kind, name) in plugins.installed():
        return plugins.load(plugins.installed()[kind, name][0], register(kind, name))
    if name not in _modules(kind):
        raise ConfigError(unknown(kind, name, names(kind)))
    importlib.import_module(_modules(kind)[name])
    return _entries[kind, name]


def summary(kind: str, name: str) -> str:
    """The first line of the docstring of an entry, or the title of a data set. Imports only entries that have none in the source text."""
    if kind != "dataset" and (kind, name) not in _entries and (lines := _lines(kind, _modules(kind).get(name))).get(name):
        return lines[name]
    entry = get(kind, name)
    documented = getattr(entry, "apply", getattr(entry, "parse", entry))  # of a record around a function
    text: str = getattr(entry, "title", "") or documented.__doc__ or ""
    return text.strip().partition("\n")[0]


@cache
def _lines(kind: str, module: str | None) -> dict[str, str]:
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
    lower = {candidate.lower(): candidate for candidate in known}
    near = [lower[candidate] for candidate in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)]
    return f"unknown {what} {name!r:.200}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    )
