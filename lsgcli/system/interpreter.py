"""The interpreter: what it imports and warns about, and the versions of what is installed. Imports nothing heavy.

Modules of the working directory, which may be a stranger's, are not imported.
"""

import os
import re
import sys
import warnings
from importlib import metadata

from lsgcli.errors import DISTRIBUTION

PYTHON = (sys.executable, "-P")
_own_filters: list[object] = []
try:
    __version__ = metadata.version("lsgcli")
except metadata.PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.dev0"


def command(module: str, *words: str) -> list[str]:
    """The command line that runs a module, such as ``lsgcli`` itself, in a new interpreter."""
    return [*PYTHON, "-m", module, *words]


def protect_children() -> None:
    """Keep the working directory out of the module path of interpreters that libraries start: multiprocessing, torchrun, submitit."""
    os.environ["PYTHONSAFEPATH"] = "1"


def filter_warnings() -> None:
    """Drop Pillow's warnings about odd images, and let numba's about an invalid environment variable be errors."""
    before = list(warnings.filters)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("error", "Environment variable 'NUMBA", RuntimeWarning)
    _own_filters.extend(one for one in warnings.filters if one not in before)


def unfilter_warnings() -> None:
    """Remove these filters, for a script of the user."""
    warnings.filters[:] = [one for one in warnings.filters if one not in _own_filters]  # type: ignore[index]


def installed() -> dict[str, str | None]:
    """Versions of the packages that lsg and its extras need; empty in a source tree that is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    names = {re.split(r"[^\w.-]", line)[0] for line in lines}
    return {name: version_of(name) for name in sorted(names - {DISTRIBUTION})}


def version_of(package: str) -> str | None:
    """The version of an installed package; None of another."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
