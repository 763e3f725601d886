"""Readers of recordings, one file per format. A reader is a class with the attributes of :class:`Reader`.

Whatever the bytes of a file are, reading it gives events inside the sensor or a DataError that names the file, and takes
no more memory than 8 times the file's size + 16 MiB, beyond what the reader's library takes once when it is imported.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Protocol

from lsgcli import registry
from lsgcli.data.events import Events
from lsgcli.errors import DataError

HEAD = 4096  # bytes by which a format is recognised: longer than the text that Prophesee's files begin with


class Reader(Protocol):
    """How a format is recognised and read.

    Attributes:
        suffixes: what names of such files end in, lower case.

    It may have a ``version``, 1 if not: raise it when the same file gives other events.
    """

    suffixes: tuple[str, ...]

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether a file that begins with ``head`` is of this format for certain."""

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file, in order of time.

        Args:
            sensor: (width, height) that every event must lie inside, beside what the file itself states.

        Raises:
            DataError: the file is empty or damaged, or has an event outside the sensor; the message names the file
                and, where known, the byte (or the number of the event, where the format has no bytes to name).
        """


@cache
def _readers() -> dict[str, type[Reader]]:
    return {name: registry.get("reader", name) for name in registry.names("reader")}


def suffixes() -> tuple[str, ...]:
    """The endings of file names that some reader knows."""
    return tuple(sorted({suffix for reader in _readers().values() for suffix in reader.suffixes}))


def versions(endings: Collection[str]) -> dict[str, int]:
    """Name -> version of the readers of files whose names end so."""
    return {
        name: getattr(reader, "version", 1)
        for name, reader in _readers().items()
        if not set(endings).isdisjoint(reader.suffixes)
    }


def identify(path: Path) -> str:
    """Name of the reader for a recording: by its content where that is unmistakable, else by its suffix.

    Raises:
        DataError: no such file, empty, or no reader for it.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: found no file, expected a recording")
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check the path and its permissions.") from error
    if not head:
        raise DataError(f"{path}: found an empty file (byte 0), expected a recording", hint="Fetch or record it again.")
    return _choose(path, head)


def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
    """Read a recording.

    Args:
        sensor: (width, height): every event must lie inside it.

    Raises:
        DataError: no such file, no reader for it, damaged, or an event outside the sensor.
    """
    path = Path(path)
    return _readers()[identify(path)].read(path, sensor)


def _choose(path: Path, head: bytes) -> str:
    for name, reader in _readers().items():
        if reader.recognise(head):
            return name
    for name, reader in _readers().items():
        if path.suffix.lower() in reader.suffixes:
            return name
    known = ", ".join(suffixes())
    raise DataError(
        f"{path}: found no format that can be read, expected one of {known}", hint="Convert it, for example to .npz."
    )
