"""``SHA256SUMS`` of a folder, as ``sha256sum -c`` reads it: 64 hexadecimal digits, two spaces, and a path relative to the folder in each line."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lsgcli.data.folders import walk
from lsgcli.data.guard import readable
from lsgcli.data.parallel import Progress, silent
from lsgcli.errors import DataError
from lsgcli.system.files import open_regular, replacing

NAME = "SHA256SUMS"
LINE = re.compile(r"([0-9A-Fa-f]{64}) [ *](.+)")


class Report(NamedTuple):
    """Differences between the files of a folder and its manifest: paths relative to the folder, sorted.

    Attributes:
        missing: listed files that do not exist.
        changed: listed files with different content.
        extra: files that are not listed, except hidden ones and partial downloads.
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def write(folder: Path, paths: Iterable[Path] | None = None, progress: Progress = silent) -> None:
    """Write the manifest of all non-hidden files in and below ``folder``, or add ``paths`` to it.

    Raises:
        DataError: a file cannot be read, or its name contains a line break.
        StorageError: the manifest cannot be written; an existing one is unchanged.
    """
    names = _below(folder) if paths is None else sorted({path.relative_to(folder).as_posix() for path in paths})
    digests = {} if paths is None else read(folder)
    digests |= _hashed(folder, names, progress)
    lines = []
    for name, digest in sorted(digests.items()):
        if "\n" in name:
            raise DataError(f"{folder}: found a file name with a line break, {name!r}", "Rename the file.")
        lines.append(f"{digest}  {name}\n")
    with replacing(folder / NAME) as temporary:
        temporary.write_bytes(os.fsencode("".join(lines)))


def read(folder: Path) -> dict[str, str]:
    """Path relative to the folder -> SHA-256 as 64 lower-case hexadecimal digits; empty without a manifest.

    Raises:
        DataError: the manifest cannot be read, or a line is malformed or refers to a file outside the folder.
    """
    source = folder / NAME
    found = dict[str, str]()
    if not os.path.lexists(source):
        return found
    with readable(source), open_regular(source) as stream:
        lines = os.fsdecode(stream.read()).split("\n")
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        name = posixpath.normpath(match[2]) if match else "."
        if match is None or name == "." or name.split("/")[0] in ("", "..") or "\0" in name:
            raise DataError(
                f"{source}: line {number}: found {line[:80]!r}, expected a SHA-256 sum, two spaces and a path inside the folder",
                "Restore the original, or remove it and write a new one.",
            )
        found[name] = match[1].lower()
    return found


def check(folder: Path, progress: Progress = silent) -> Report:
    """Compare every file with the manifest; without one, nothing differs.

    Raises:
        DataError: the manifest is malformed, or a file cannot be read.
    """
    expected = read(folder)
    if not expected:
        return Report()
    found = _hashed(folder, sorted(name for name in expected if (folder / name).is_file()), progress)
    changed = [name for name, digest in found.items() if digest != expected[name]]
    missing = expected.keys() - found.keys()
    extra = set(_below(folder)) - expected.keys()
    return Report(tuple(sorted(missing)), tuple(changed), tuple(sorted(extra)))


def _below(folder: Path) -> list[str]:
    """All files except hidden ones, the manifest itself, and partial downloads."""
    names = [path.relative_to(folder).as_posix() for path in walk(folder)]
    return sorted(name for name in names if name != NAME and not name.endswith(".part"))


def _hashed(folder: Path, names: list[str], progress: Progress) -> dict[str, str]:
    """SHA-256 of files; ``progress`` is called with (files hashed, number of files)."""
    found = {}
    for name in names:
        with readable(folder / name), open(folder / name, "rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        progress(len(found), len(names))
    return found
