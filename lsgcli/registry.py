"""Everything that has a name in the command line: one file, one decorated class or function.

A *kind* ("surrogate", "arch", "dataset", ...) is a package, and a thing of that kind is a module in it: the surrogate
``triangular`` is ``lsgcli/neurons/surrogates/triangular.py``, the data set ``n-mnist`` is ``lsgcli/data/sets/n_mnist.py``.
So the names can be listed, for help pages and completion, without importing anything heavy, and adding a thing is adding
a file. Other packages add theirs through an entry point of the group ``lsg.<kind>``, and a script through the decorator.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from lsgcli.errors import ConfigError

PACKAGES = {
    "surrogate": "lsgcli.neurons.surrogates",
    "method": "lsgcli.neurons.methods",
    "backend": "lsgcli.neurons.kernels",
    "arch": "lsgcli.models",
    "dataset": "lsgcli.data.sets",
    "reader": "lsgcli.data.readers",
    "augmentation": "lsgcli.data.augmentations",
    "loss": "lsgcli.training.losses",
    "format": "lsgcli.export",
    "picture": "lsgcli.report.pictures",
}
# Modules that stand in such a package without being a thing of its kind.
HELPERS = {
    "arch": {"base", "layers", "fold"},
    "backend": {"cpu", "gpu"},
    "dataset": {"cifar", "cifar_dvs_files", "handwriting"},
    "reader": {"aedat4_packets", "columns", "prophesee"},
    "format": {"evaluate", "graphs", "network", "source", "verify"},
    "picture": {"base", "by_layer"},
}

_things: dict[tuple[str, str], Any] = {}
T = TypeVar("T")


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorate a class or function so that ``name`` finds it among the things of ``kind``."""
    if kind not in PACKAGES:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(sorted(PACKAGES))}")

    def decorate(thing: T) -> T:
        known = _things.get((kind, name))
        if known is not None and getattr(known, "__module__", None) != getattr(thing, "__module__", None):
            raise ValueError(f"{kind} {name!r} is registered twice: {known.__module__} and {thing.__module__}")
        _things[kind, name] = thing
        return thing

    return decorate


@cache
def _files(kind: str) -> dict[str, str]:
    """Name -> module of each file in the kind's package, found by listing the package's folder."""
    # By path: asking the import system would import the package around it, and torch with it.
    folder = Path(__file__).parent.joinpath(*PACKAGES[kind].split(".")[1:])
    found = (info.name for info in pkgutil.iter_modules([str(folder)]))
    skip = HELPERS.get(kind, set())
    return {name.replace("_", "-"): f"{PACKAGES[kind]}.{name}" for name in found if name not in skip}


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"lsg.{kind}")}


def names(kind: str) -> list[str]:
    """All names of a kind, sorted; imports none of the things."""
    return sorted({*_files(kind), *_plugins(kind), *(name for k, name in _things if k == kind)})


def get(kind: str, name: str) -> Any:
    """The thing called ``name``.

    Raises:
        ConfigError: no such name; the message suggests the nearest.
    """
    if (kind, name) not in _things:
        if name in _files(kind):
            importlib.import_module(_files(kind)[name])
        elif name in _plugins(kind):
            register(kind, name)(_plugins(kind)[name].load())
        else:
            raise ConfigError(unknown(kind, name, names(kind)))
    return _things[kind, name]


def unknown(what: str, name: str, known: list[str]) -> str:
    """One line saying that ``name`` is not known, with the nearest names or all of them."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"unknown {what} {name!r}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    )
