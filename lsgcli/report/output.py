"""Results of commands: printing text, with control characters escaped, and JSON, and checking the outputs given by the user."""

import csv
import io
import re
import select
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lsgcli.errors import ConfigError, StorageError, clean
from lsgcli.store import rundir
from lsgcli.system.files import json_text, kind_of

ANOTHER = "Choose another name."
EXPORTED = rb"\"export\": {\"format\": \""  # in the header of a safetensors file that `lsg export` wrote
REFRESHED = rb"\"refreshed\": {\"batches\": "  # likewise, `lsg eval --refresh-norm`
# Patterns for the first bytes of a file, by suffix; those of exports are in their formats.
BEGINNINGS = {
    ".html": rb"\s*<",
    ".svg": rb"\s*<",
    ".png": rb"\x89PNG",
    ".pdf": rb"%PDF",
}


def print_result(text: str) -> None:
    """Print text for people to stdout, with control characters escaped."""
    print(clean(text), flush=True)


def print_exact(text: object) -> None:
    """Print a path or command, for programs to use; control characters are escaped only if stdout is a terminal."""
    print(clean(str(text)) if sys.stdout.isatty() else text, flush=True)


def is_abandoned() -> bool:
    """Whether stdout is a pipe whose reader has closed it; otherwise, only the next write fails."""
    if not hasattr(select, "poll"):  # Windows
        return False
    try:
        looked = select.poll()
        looked.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in looked.poll(0))
    except (OSError, ValueError):  # no descriptor
        return False


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated values, with control characters escaped, and a ``'`` before text that a spreadsheet takes for a formula."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = clean(value)
    begins_formula = text.startswith(("=", "+", "-", "@", "\t")) and not all(map(_is_number, text.split()))
    return f"'{text}" if begins_formula else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def print_json(value: Any) -> None:
    """Print a result as one line of JSON; NaN and infinity become null."""
    print(json_text(value), flush=True)


def check_output(
    target: Path,
    option: str,
    *,
    suffixes: tuple[str, ...] = (),
    folder: bool = False,
    inputs: Iterable[Path] = (),
    magic: bytes = b"",
    force: bool = False,
) -> None:
    """Check that a command may write a file or folder given by the user, before the command starts its work.

    An output never replaces an input of the command, a checkpoint, a file of a run, a symbolic link, or a file of another kind. It
    replaces any other file only with ``force``. Other files in an output folder are kept.

    Args:
        target: the path given by the user.
        option: the option it was given with, for messages, such as ``--html``.
        suffixes: allowed suffixes of a file. For a folder, suffixes of the files that the command writes, each of which is checked if
            it exists; without suffixes, the folder must be new or empty.
        folder: whether the output is a folder.
        inputs: files and folders that the command reads.
        magic: pattern for the first bytes of a file that may be replaced; empty for that of its suffix.
        force: whether ``--force`` was given.

    Raises:
        ConfigError: ``target`` must not be replaced, or has another suffix.
        StorageError: its parent does not exist, or ``target`` is not accessible.
    """
    name = f"{option} {target}"
    expected = "a folder" if folder else "a file"
    found: str | None
    if suffixes and not folder and target.suffix.lower() not in suffixes:
        suffix = repr(target.suffix) if target.suffix else "no suffix"
        raise ConfigError(f"{name}: found {suffix}, expected a name with suffix {' or '.join(suffixes)}")
    if not target.absolute().parent.is_dir():
        raise StorageError(f"{name}: no such folder: {target.parent}", "Create it first.")
    try:
        found = kind_of(target.stat().st_mode)
    except FileNotFoundError:
        found = "a broken symbolic link" if target.is_symlink() else None
    except OSError as error:  # a loop of symbolic links, a name that is too long
        raise StorageError(f"{name}: cannot be written: {error.strerror}", ANOTHER) from error
    if found not in (None, expected):
        raise ConfigError(f"{name}: found {found}, expected {expected}", ANOTHER)
    if protected := _protection(target, inputs):
        raise ConfigError(f"{name}: {protected}", ANOTHER)
    if found == "a file" and target.is_symlink():
        raise ConfigError(f"{name}: found a symbolic link, expected {expected}", ANOTHER)
    if found == "a file":
        beginning = _beginning(target, 64)
        if beginning and not re.match(magic or BEGINNINGS.get(target.suffix.lower(), b""), beginning, re.DOTALL):
            raise ConfigError(f"{name}: the existing file is not a {target.suffix} file and is not replaced", ANOTHER)
        if not force:
            raise ConfigError(f"{name}: the file exists", "Add --force to replace it, or choose another name.")
    elif found == "a folder":
        if not suffixes and any(target.iterdir()):
            raise ConfigError(f"{name}: the folder contains files, expected a new or empty folder", ANOTHER)
        for file in sorted(file for file in target.iterdir() if file.suffix.lower() in suffixes):
            check_output(file, option, suffixes=suffixes, inputs=inputs, force=force)


def check_plot(target: Path, *, folder: bool | None, inputs: Iterable[Path] = (), force: bool = False) -> None:
    """As :func:`check_output`, for drawings given by ``--plot``.

    Args:
        folder: whether they are written to a folder; None if the suffix tells.
    """
    from lsgcli.report.drawing import SUFFIXES

    suffix = target.suffix.lower()
    if folder and suffix in SUFFIXES:
        raise ConfigError(f"--plot {target}: found a name with suffix {suffix}, expected a folder, for several figures")
    folder = suffix not in SUFFIXES if folder is None else folder
    check_output(target, "--plot", suffixes=SUFFIXES, folder=folder, inputs=inputs, force=force)


def _protection(target: Path, inputs: Iterable[Path]) -> str:
    """Why no output replaces ``target``, whether it exists or not; empty if it is not protected."""
    resolved = target.resolve()
    for source in inputs:
        if source.exists() and target.exists() and (target.samefile(source) or resolved.is_relative_to(source.resolve())):
            return f"is {'in ' * source.is_dir()}{source}, which the command reads"
    if resolved.name in rundir.FILES and rundir.is_run(resolved.parent):
        return f"belongs to the run in {target.parent}, which no output replaces"
    length = int.from_bytes(_beginning(target, 8), "little")
    header = _beginning(target, 8 + min(length, 1 << 24))[8:]  # of a safetensors file, even if damaged
    if header.startswith(b"{") and b'"lsg.format_version"' in header and EXPORTED not in header and REFRESHED not in header:
        return "is a checkpoint, which no output replaces"
    return ""


def _beginning(path: Path, size: int) -> bytes:
    """Up to ``size`` first bytes of a file; empty if it does not exist or cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(size)
    except OSError:
        return b""
