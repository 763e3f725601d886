"""Packages that lsg and its extras need, and their installed versions."""

import re
from importlib import metadata
from typing import NamedTuple

from lsgcli.errors import DISTRIBUTION

REQUIREMENT = re.compile(r"([\w.-]+)[^;]*?(?:>=([\d.]+))?[^;]*(?:;.*?extra == ['\"](\w+)['\"])?")


class Requirement(NamedTuple):
    """A package that lsg or one of its extras needs."""

    package: str
    least: str
    extra: str
    version: str | None  # None if it is not installed

    @property
    def too_old(self) -> bool:
        """Whether an older version is installed."""
        return self.version is not None and release(self.version) < release(self.least)


def requirements() -> list[Requirement]:
    """The packages that lsg and its extras need; empty in a source tree that is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = {}
    for line in lines:
        if (match := REQUIREMENT.fullmatch(line)) and match[1] != DISTRIBUTION:
            found[match[1], match[3]] = Requirement(match[1], match[2] or "0", match[3] or "", version_of(match[1]))
    return list(found.values())


def version_of(package: str) -> str | None:
    """The version of an installed package; None of another."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The release of a version, comparable: 2.13.0+cpu is (2, 13)."""
    parts = tuple(int(part) for part in re.split(r"\D", re.match(r"[\d.]*", version)[0]) if part)  # type: ignore[index]
    return parts[: max((k for k, part in enumerate(parts, 1) if part), default=0)]
