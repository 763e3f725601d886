"""``SHA256SUMS`` of a folder, in the format of ``sha256sum``: the files of a data set and their checksums.

A line contains 64 hexadecimal digits, two spaces (or a space and ``*``), and a path relative to the folder. If a name contains a
backslash, line feed or carriage return, the line starts with a backslash and these are escaped as ``\\\\``, ``\\n``, ``\\r``.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lsgcli.data.folders import walk
from lsgcli.data.progress import Progress
from lsgcli.errors import DataError
from lsgcli.system.files import open_regular, replacing

NAME = "SHA256SUMS"
LINE = re.compile(rb"(\\?)([0-9A-Fa-f]{64}) [ *](.+)")
ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
ESCAPED = {escape: plain for plain, escape in ESCAPES.items()}
HINT = "Restore the original, or remove it and write a new one."


class Report(NamedTuple):
    """Differences between the files of a folder and its manifest: paths relative to the folder, sorted.

    Attributes:
        missing: listed files that do not exist.
        changed: listed files with different content.
        extra: files that are not listed, except hidden ones and partial downloads.
    """

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]


def write(folder: Path, paths: Iterable[Path] | None = None, progress: Progress | None = None, *, extend: bool = False) -> None:
    """Write the manifest of ``paths`` in ``folder``, or of all non-hidden files in and below it.

    Args:
        extend: keep existing entries of other files.

    Raises:
        DataError: a file cannot be read.
        StorageError: the manifest cannot be written; an existing one is unchanged.
    """
    names = _below(folder) if paths is None else sorted({path.relative_to(folder).as_posix() for path in paths})
    known = listed(folder) if extend else {}
    _save(folder, known | _hashed(folder, names, progress))


def remove(folder: Path, names: Collection[str]) -> None:
    """Remove the entries of files from the manifest of ``folder``, if there is one, and the manifest if no others are left.

    Raises:
        DataError: as :func:`read`.
        StorageError: it cannot be written.
    """
    found = listed(folder)
    others = {name: digest for name, digest in found.items() if name not in names}
    if found and not others:
        (folder / NAME).unlink()
    elif len(others) < len(found):
        _save(folder, others)


def _save(folder: Path, digests: Mapping[str, str]) -> None:
    with replacing(folder / NAME) as temporary, open(temporary, "wb") as out:
        for name, digest in sorted(digests.items()):
            raw = os.fsencode(name)
            escaped = re.sub(rb"[\\\n\r]", lambda character: ESCAPES[character[0]], raw)
            out.write((b"\\" if escaped != raw else b"") + digest.encode() + b"  " + escaped + b"\n")


def listed(folder: Path) -> dict[str, str]:
    """As :func:`read`; empty if there is no manifest."""
    return read(folder) if os.path.lexists(folder / NAME) else {}


def read(folder: Path) -> dict[str, str]:
    """Path relative to the folder -> SHA-256 as 64 lower-case hexadecimal digits.

    Raises:
        DataError: there is no manifest, or a line is malformed or refers to a file outside the folder.
    """
    source = folder / NAME
    try:
        with open_regular(source) as stream:
            lines = stream.read().split(b"\n")
    except OSError as error:
        hint = "lsg writes one for the data sets that it downloads."
        raise DataError(f"{source}: cannot be read: {error.strerror}", hint=hint) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            if line and not line.startswith(b"#"):
                name, digest = _parse(line)
                if found.setdefault(name, digest) != digest:
                    raise ValueError(f"{name!r} again, with another checksum")
        except ValueError as error:
            raise DataError(f"{source}: line {number}: found {error}", hint=HINT) from None
    return found


def check(folder: Path, progress: Progress | None = None) -> Report:
    """Compare every file with the manifest.

    Raises:
        DataError: the manifest is missing or malformed, or a file cannot be read.
    """
    expected = read(folder)
    found = _hashed(folder, sorted(name for name in expected if (folder / name).is_file()), progress)
    return Report(
        missing=tuple(sorted(expected.keys() - found.keys())),
        changed=tuple(name for name, digest in found.items() if digest != expected[name]),
        extra=tuple(sorted(set(_below(folder)) - expected.keys())),
    )


def _parse(line: bytes) -> tuple[str, str]:
    """Path and checksum of a line; a ValueError describes an invalid one."""
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{line[:80]!r}, expected a SHA-256 sum, two spaces and a path")
    escaped, digest, name = match.groups()
    if escaped:
        try:
            name = re.sub(rb"\\.?", lambda escape: ESCAPED[escape[0]], name)
        except KeyError as error:
            raise ValueError(f"an unknown escape in {name[:80]!r}") from error
    text = os.fsdecode(name)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or not parts or "\0" in text:
        raise ValueError(f"the path {text!r}, expected one inside the folder")
    return "/".join(parts), digest.decode().lower()


def _below(folder: Path) -> list[str]:
    """All files except hidden ones, the manifest itself, and partial downloads."""
    names = [(place / name).relative_to(folder).as_posix() for place, files in walk(folder) for name in files]
    return sorted(name for name in names if name != NAME and not name.endswith(".part"))


def _hashed(folder: Path, names: list[str], progress: Progress | None) -> dict[str, str]:
    """SHA-256 of files; ``progress`` is called with (bytes hashed, total bytes)."""
    found, done = {}, 0
    total = sum(os.path.getsize(folder / name) for name in names if (folder / name).is_file()) if progress else 0
    for name in names:
        try:
            with open(folder / name, "rb") as stream:
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
                done += stream.tell()
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read: {error.strerror}", hint="Check its permissions.") from error
        if progress:
            progress(done, total)
    return found
