"""What Prophesee's recordings have in common: lines of text before the events, and a library that reads two of the formats.

A line starts with ``%`` and ends in LF. Which format it is, and how large the sensor was, may stand in them::

    % evt 3.0                                   % format EVT3;height=720;width=1280
    % geometry 1280x720                         % Height 480  and  % Width 640 (.dat)

Source: https://docs.prophesee.ai/stable/data/file_formats/index.html
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import check_inside, damaged, foreign

LARGEST = 1 << 14  # the coordinates of a .dat have 14 bits, and those of an EVT file have 11
CHUNK = 1 << 16  # events that are read at once


@dataclass(frozen=True)
class Header:
    """The lines before the events.

    Attributes:
        start: where the events begin, in bytes.
        encoding: ``2.0``, ``2.1`` or ``3.0``; None where it is not stated, as in a ``.dat``.
        sensor: (width, height), or None where it is not stated.
    """

    start: int
    encoding: str | None
    sensor: tuple[int, int] | None


def encoding(head: bytes) -> str | None:
    """Which EVT version a file states whose first bytes are ``head``: ``2.0``, ``2.1``, ``3.0``, or None."""
    text = "\n".join(line.decode("latin-1") for _, line in _lines(head))
    if match := re.search(r"^% evt (\d)\.(\d)", text, re.MULTILINE):
        return f"{match[1]}.{match[2]}"
    if match := re.search(r"^% format EVT(\d)(\d?)", text, re.MULTILINE):
        return f"{match[1]}.{match[2] or 0}"
    return None


def header(path: Path, content: bytes) -> Header:
    """Read the lines before the events.

    Raises:
        DataError: there are none, they have no end, or state a size that no sensor has.
    """
    start, text = 0, ""
    for start, line in _lines(content):
        if not line.endswith(b"\n"):
            raise damaged(path, f"byte {start}", "a header line without end", "a line feed and events")
        text += line.decode("latin-1")
        start += len(line)
    if not text:
        raise damaged(path, "byte 0", repr(content[:12]), "lines of text that start with %")
    return Header(start, encoding(text.encode("latin-1")), _sensor(path, text))


def need(path: Path, found: Header, wanted: str) -> None:
    """See that a file is of the encoding that its reader reads.

    Raises:
        DataError: it is of another, or does not say.
    """
    if found.encoding != wanted:
        states = f"EVT {found.encoding}" if found.encoding else "no line '% evt 2.0' or '% evt 3.0'"
        raise damaged(path, "byte 0", states, "EVT 2.0 or EVT 3.0", hint="Convert it with Prophesee's tools.")


def events_of(
    path: Path,
    kind: str,
    start: int,
    count: int,
    limits: tuple[tuple[int, int] | None, ...],
    where: Callable[[int], str],
) -> Events:
    """Read the events with the library ``expelliarmus``, chunk by chunk; times as it gives them.

    The caller has seen to it that the file is whole: at the end of a file the library reads on for ever.

    Args:
        kind: the library's name of the format.
        start: where the events begin, in bytes.
        count: how many there are.
        limits: sensors that every event must lie inside.
        where: number of an event -> its place in the file, for messages.

    Raises:
        DataError: the library fails, finds another number of events, or one lies outside.
    """
    x, y = np.empty(count, np.uint16), np.empty(count, np.uint16)
    t, on = np.empty(count, np.int64), np.empty(count, bool)
    done = 0
    with foreign(path, f"a recording of {count} events"):
        from expelliarmus import Wizard

        wizard = Wizard(encoding=kind, chunk_size=min(CHUNK, count))
        wizard._fpath = path.resolve()  # set_file would refuse names that do not end in .dat or .raw, and links to such
        # It would look for the end of the text itself, and take events for text that happen to begin with a %.
        wizard.cargo.events_info.start_byte = start
        for chunk in wizard.read_chunk():
            place = slice(done, done + len(chunk))
            if place.stop > count:
                break
            x[place], y[place], t[place], on[place] = chunk["x"], chunk["y"], chunk["t"], chunk["p"] & 1
            done = place.stop
    if done != count:
        raise damaged(path, where(done), f"{done} events that can be read", f"{count}")
    for limit in limits:
        check_inside(path, x, y, limit, where)
    return Events(x, y, t, on, None)


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(Offset, line) of the lines that start with %, up to ``% end`` where there is one."""
    start = 0
    while content[start : start + 1] == b"%":
        end = content.find(b"\n", start) + 1 or len(content)
        yield start, content[start:end]
        if content[start:end].strip() == b"% end":
            return
        start = end


def _sensor(path: Path, text: str) -> tuple[int, int] | None:
    """(Width, height) if the lines state both."""
    if match := re.search(r"^% geometry (\d+)x(\d+)", text, re.MULTILINE):
        width, height = match[1], match[2]
    else:
        stated = dict(re.findall(r"^%.*?\b(width|height)[ =:]+(\d+)", text, re.MULTILINE | re.IGNORECASE))
        stated |= dict(re.findall(r";(width|height)=(\d+)", text))
        stated = {name.lower(): value for name, value in stated.items()}
        if len(stated) < 2:
            return None
        width, height = stated["width"], stated["height"]
    if not all(len(side) <= 5 and 0 < int(side) <= LARGEST for side in (width, height)):
        raise damaged(path, "byte 0", f"a sensor of {width[:9]}x{height[:9]}", f"sides of 1 to {LARGEST}")
    return int(width), int(height)
