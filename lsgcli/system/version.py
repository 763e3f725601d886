"""Version of the installed package, and of the packages that it needs."""

import re
from importlib import metadata

from lsgcli.errors import DISTRIBUTION

try:
    __version__ = metadata.version("lsgcli")
except metadata.PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.dev0"


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
