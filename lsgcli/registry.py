"""Registry of named classes and functions, such as surrogates, architectures and data sets.

A *kind* ("surrogate", "arch", "dataset", ...) is a module or a folder of modules of this package. Its entries are classes, functions or
objects registered under a literal name::

    @register("surrogate", "triangular")
    def triangular(x, width): ...

    reference = register("backend", "reference")(Reference())

An entry called ``prefix:NAME`` stands for all entries of another package; its class method ``of`` returns the entry with a given name.

``registered.json`` has the names of this package with the module and the constants of each, so that settings, help pages and completion
need not import torch; ``python docs/generate.py`` writes it. Other packages add entries through entry points of the group
``lsg.<kind>``, scripts and files of ``--plugin`` through the decorator.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from lsgcli.errors import ConfigError, LsgError

ROOT = Path(__file__).parent
# Kind -> ``module:class`` of its entries; entries of all other kinds are functions.
BASES = {
    "method": "neurons.methods:Method",
    "neuron": "neurons.models:Neuron",
    "backend": "neurons.kernels.base:Backend",
    "arch": "models.base:SpikingNet",
    "dataset": "data.datasets.base:Dataset",
    "reader": "data.readers.base:Reader",
    "augmentation": "data.augment:Augmentation",
    "rule": "analysis.rules.base:Rule",
    "intervention": "analysis.experiments.base:Intervention",
    "format": "export.base:Format",
    "picture": "report.figures:Picture",
    "launcher": "sweeps.launchers:Launcher",
    "logger": "loggers.base:Logger",
}
KINDS = sorted([*BASES, "surrogate", "norm", "loss"])
INSTANCES = {"method", "backend", "reader", "augmentation", "picture"}  # kinds whose entries are instances, not subclasses

PLUGIN = "it is a plug-in, see docs/plugins in the repository (`pip install ./docs/plugins`)"
# Names that versions before 0.1.0 had.
EARLIER = "only versions of lsg before 0.1.0 have it"
REMOVED = dict.fromkeys(
    ("max-resnet18-2222", "maxformer", "maxformer-dvs", "preact-resnet18", "sequential-cnn", "sew-dvs", "sew-dvs-wide"), PLUGIN
)
REMOVED |= {"pmsn": EARLIER, "nir": EARLIER, "stable-spike": EARLIER}
NAME = "NAME"
GROUP = "lsg."

_entries: dict[tuple[str, str], Any] = {}
files: dict[str, str] = {}  # path of each file of import_file -> SHA-256
T = TypeVar("T")


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator that registers a class or function as the entry ``name`` of ``kind``: ``@lsg.register("method", "half")``.

    Args:
        kind: ``method``, ``surrogate``, ``arch``, ``dataset``, ...; the error of an unknown kind lists them.

    Raises:
        ValueError: the kind is unknown, or another module has registered the name.
        ConfigError: the entry is not of the type that its kind requires, or lacks methods or attributes.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")

    def decorate(entry: T) -> T:
        module = str(getattr(entry, "__module__", ""))
        if not module.startswith(f"{__package__}."):
            _check(kind, name, entry)
        before = str(getattr(_entries.get((kind, name), entry), "__module__", ""))
        if before != module:
            raise ValueError(f"{kind} {name!r} is registered twice: {before} and {module}")
        _entries[kind, name] = entry
        return entry

    return decorate


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Kind -> name -> ``module``, first line of the docstring and constants of each entry of this package."""
    text = (ROOT / "registered.json").read_text(encoding="utf-8")
    return {**{kind: {} for kind in KINDS}, **json.loads(text, object_hook=_with_attributes)}


def _with_attributes(record: dict[str, Any]) -> Any:
    """An object for what has a docstring: an entry, and the rule and the neuron of a method."""
    return SimpleNamespace(**record) if "__doc__" in record else record


def _check(kind: str, name: str, entry: Any) -> None:
    """Check that an entry of another package is of the type that its kind requires."""
    fits = callable(entry)
    expected = "a function"
    if kind in BASES:
        module, _, base_name = BASES[kind].partition(":")
        base = getattr(importlib.import_module(f"{__package__}.{module}"), base_name)
        if kind in INSTANCES:
            fits = isinstance(entry, base)
            expected = f"an instance of {base_name}, from {__package__}.{module}"
        else:
            fits = isinstance(entry, type) and issubclass(entry, base)
            expected = f"a subclass of {base_name}, from {__package__}.{module}"
        if fits and isinstance(entry, type) and (lacking := getattr(entry, "__abstractmethods__", ())):
            fits = False
            expected = f"it to define {', '.join(sorted(lacking))}, as every subclass of {base_name}"
    if not fits:
        raise ConfigError(f"{kind} {name!r}: found {getattr(entry, '__qualname__', None) or repr(entry)}, expected {expected}")


def names(kind: str) -> list[str]:
    """All names of a kind, sorted, without importing the entries."""
    others = {name for of, name in (*installed(), *_entries) if of == kind}
    return sorted(others | facts()[kind].keys())


def known(kind: str, name: str) -> bool:
    """Whether a kind has the entry ``name``. Of ``prefix:NAME``, only the prefix is checked; :func:`get` checks the rest."""
    prefix, _, rest = name.partition(":")
    return rest != NAME and (f"{prefix}:{NAME}" if rest else name) in names(kind)


def get(kind: str, name: str) -> Any:
    """The entry ``name`` of a kind.

    Raises:
        ConfigError: the name is unknown (the message suggests similar names), several packages define it, or a plug-in cannot be loaded.
    """
    points = installed().get((kind, name), ())
    places = [f"{__package__} itself"] if points and name in facts()[kind] else []
    places += dict.fromkeys(map(described, points))
    if len(places) > 1:
        hint = "Rename an entry, or uninstall its package."
        raise ConfigError(f"{kind} {name!r}: found in {' and in '.join(places)}, expected one", hint)
    if (kind, name) in _entries:
        return _entries[kind, name]
    prefix, _, rest = name.partition(":")
    if rest and known(kind, name):
        return get(kind, f"{prefix}:{NAME}").of(rest)
    if points:
        return loaded(points[0], register(kind, name))
    if name not in facts()[kind]:
        raise ConfigError(unknown(kind, name, names(kind)))
    importlib.import_module(facts()[kind][name].module)
    return _entries[kind, name]


def every(kind: str) -> dict[str, Any]:
    """All entries of a kind, by name."""
    return {name: get(kind, name) for name in names(kind)}


def traits(kind: str, name: str) -> Any:
    """An entry; or, of this package, an object with the constants of its class, of a method with its rule and its neuron.

    Raises:
        ConfigError: as :func:`get`.
    """
    found = facts()[kind].get(name)
    return get(kind, name) if found is None or (kind, name) in installed() else found


def takes(kind: str, name: str, argument: str) -> bool:
    """Whether a registered function has an argument of this name."""
    found = traits(kind, name)
    return argument in (getattr(found, "arguments", None) or inspect.signature(found).parameters)


def summary(kind: str, name: str) -> str:
    """The first line of the docstring of an entry, or its title. Imports only entries of other packages."""
    return summary_of(traits(kind, name))


def summary_of(entry: Any) -> str:
    """The first line of the docstring of an entry, or its title."""
    record = not isinstance(entry, type)  # around a function
    documented = getattr(entry, "apply", getattr(entry, "parse", entry)) if record else entry
    text = getattr(entry, "title", "") or documented.__doc__
    return (text or "").strip().partition("\n")[0]


def unknown(what: str, name: str, known: list[str]) -> str:
    """A message that ``name`` is unknown, with similar names or all of them."""
    if name in REMOVED:
        return f"unknown {what} {name!r}: {REMOVED[name]}"
    lower = {candidate.lower(): candidate for candidate in known}
    near = [lower[candidate] for candidate in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)]
    return f"unknown {what} {name!r:.200}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    )


class PluginError(ConfigError):
    """A plug-in that cannot be loaded; the message names its entry point, package and line."""


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
    try:
        return accept(point.load())
    except (Exception, SystemExit) as error:
        package = point.dist.name if point.dist else point.module
        hint = f"Correct the entry point and install the package again, or remove it: pip uninstall {package}"
        raise PluginError(f"{described(point)}: {_said(error)}", hint) from error


def import_file(file: Path) -> None:
    """Import a Python file, whose decorators register entries.

    Its folder joins the places of modules, so that other processes, which receive objects of its classes, find it, too.

    Raises:
        ConfigError: there is no such file, or its name is that of another module.
        PluginError: it raises an error.
    """
    path = file.absolute()
    if str(path) in files:
        return
    name = path.stem
    if not path.is_file():
        raise ConfigError(f"--plugin {file}: found no such file, expected a Python file")
    if path.suffix != ".py" or not name.isidentifier():
        raise ConfigError(f"--plugin {file}: expected a Python file whose name is that of a module, such as my_network.py")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.path.append(str(path.parent))
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin != str(path):
        raise ConfigError(f"--plugin {file}: the name is that of another module, expected another", "Rename the file.")
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise PluginError(f"--plugin {file}: {_said(error)}", "Correct the file.") from error
    files[str(path)] = digest


def _said(error: BaseException) -> str:
    """An error of a plug-in on one line, with its place."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {error}, in {last.filename}, line {last.lineno}"
    if isinstance(error, LsgError):
        said = error.message
    return " ".join(said.split())
