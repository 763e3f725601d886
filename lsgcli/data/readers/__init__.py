"""Readers of recordings, one file per format. A reader is a class with the attributes of :class:`Reader`."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

from lsgcli import registry
from lsgcli.data.events import Events
from lsgcli.errors import DataError


class Reader(Protocol):
    """How a format is recognised and read.

    Attributes:
        suffixes: what names of such files end in, lower case.
    """

    suffixes: tuple[str, ...]

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether a file that begins with ``head`` is of this format for certain."""

    @staticmethod
    def read(path: Path) -> Events:
        """All events of the file.

        Raises:
            DataError: the file is empty or damaged; the message names it and, where known, the byte.
        """


@cache
def _readers() -> tuple[type[Reader], ...]:
    return tuple(registry.get("reader", name) for name in registry.names("reader"))


def suffixes() -> tuple[str, ...]:
    """The endings of file names that some reader knows."""
    return tuple(sorted({suffix for reader in _readers() for suffix in reader.suffixes}))


def read(path: Path) -> Events:
    """Read a recording, by its content where that is unmistakable, else by its suffix.

    Raises:
        DataError: no such file, no reader for it, or damaged.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: found an empty file (byte 0), expected a recording", hint="Fetch or record it again.")
    return _choose(path, head)(path)


def _choose(path: Path, head: bytes) -> Callable[[Path], Events]:
    for reader in _readers():
        if reader.recognise(head):
            return reader.read
    for reader in _readers():
        if path.suffix.lower() in reader.suffixes:
            return reader.read
    known = ", ".join(suffixes())
    raise DataError(
        f"{path}: found no format that can be read, expected one of {known}", hint="Convert it, for example to .npz."
    )
