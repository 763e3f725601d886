"""Prophesee's recordings: ``.dat`` (N-CARS, Gen1), and ``.raw`` in EVT 2.0 and EVT 3.0. All numbers are little-endian.

They begin with lines of text that start with ``%`` and end in LF, which may state the format and the size of the sensor::

    % evt 3.0                                   % format EVT3;height=720;width=1280
    % geometry 1280x720                         % Height 480  and  % Width 640 (.dat)

``.dat``: a byte with the type of the events, a byte with their size, then 8 bytes an event: u32 time in microseconds, u32 of which bits
0-13 are the column, bits 14-27 the row and bit 28 the polarity, 1 for ON.

EVT 2.0: words of 32 bits, whose top 4 bits are their type: 0 and 1 an OFF and an ON event (6 bits of time, 11 of column, 11 of row),
8 the upper 28 bits of the time, in microseconds, of what follows.

EVT 3.0: words of 16 bits, whose top 4 bits are their type: 0 the row; 2 an event (bit 11 polarity, bits 0-10 column); 3 polarity and
column of the first pixel of a vector; 4 and 5 the next 12 or 8 pixels of the vector, a bit each; 6 the lower and 8 the upper 12 bits of
the time in microseconds.

Words of other valid types are skipped, and so are events before the first upper bits of the time, because their time is unknown. Source: https://docs.prophesee.ai/stable/data/file_formats/index.html
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, Sensor
from lsgcli.data.guard import damaged
from lsgcli.data.readers.base import check_memory, reader, table, unwrap
from lsgcli.registry import register

LARGEST = 1 << 14  # coordinates of a .dat have 14 bits, those of EVT 11
EVT = rb"(?:%.*\n)*% (?:evt |format EVT)"
SIDE = 1 << 11
HALF = 1 << 23  # half the period of the time of EVT 3.0
HIGH = 8  # the type of the upper bits of the time
EVT2 = (0, 1, HIGH, 10, 14, 15)  # known types of words
EVT3 = (0, 2, 3, 4, 5, 6, 7, HIGH, 10, 12, 14, 15)


@register("reader", "prophesee-dat")
@reader(".dat", magic=rb"(?!" + EVT + rb")% ")
def dat(path: Path) -> Events:
    """Events of Prophesee's .dat files; some state their sensor, N-CARS does not."""
    content = path.read_bytes()
    start, sensor = _header(content)
    kind = content[start : start + 2]
    if kind not in (b"\x00\x08", b"\x0c\x08"):
        raise damaged(f"byte {start}", f"type and size of the events {list(kind)}", "type 0 or 12 and 8 bytes")
    raw = table(content, start + 2, "<u4,<u4")
    t = raw["f0"].astype(np.int64)
    place = np.ascontiguousarray(raw["f1"])
    return Events(place & 0x3FFF, place >> 14 & 0x3FFF, unwrap(t, 1 << 32), place >> 28 & 1, sensor)


@register("reader", "prophesee-evt2")
@reader(".raw", magic=EVT + rb"2(?:\.0)?(?![.\d])")
def evt2(path: Path) -> Events:
    """Events of EVT 2.0 files; new ones state their sensor, old ones do not."""
    content = path.read_bytes()
    start, sensor = _header(content)
    words = table(content, start, "<u4")
    kinds = (words >> 28).astype(np.uint8)
    _check_types(kinds, EVT2, start, 4)
    # Index of the last word with upper bits of the time, at each word; -1 before the first.
    latest = np.maximum.accumulate(np.where(kinds == HIGH, np.arange(len(words)), -1))
    events = (kinds < 2) & (latest >= 0)
    high = words[latest[events]] & 0xFFFFFFF
    word = words[events]
    t = high.astype(np.int64) << 6 | word >> 22 & 0x3F
    return Events(word >> 11 & 0x7FF, word & 0x7FF, unwrap(t, 1 << 34), word >> 28, sensor)


@register("reader", "prophesee-evt3")
@reader(".raw", magic=EVT + rb"3(?:\.0)?(?![.\d])")
def evt3(path: Path) -> Events:
    """Events of EVT 3.0 files; new ones state their sensor, old ones do not."""
    content = path.read_bytes()
    start, sensor = _header(content)
    words = table(content, start, "<u2")
    _check_types((words >> 12).astype(np.uint8), EVT3, start, 2)
    decode = _compiled()

    def arrays(n: int) -> tuple[np.ndarray, ...]:
        return np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.int64), np.empty(n, np.bool_)

    count, wrong = decode(words, *arrays(0))
    if wrong >= 0:
        raise damaged(f"byte {start + 2 * wrong}", f"an event at x >= {SIDE}", f"x below {SIDE}")
    check_memory(2 * len(words), 34 * count, f"{count:,} events")
    x, y, t, on = arrays(count)
    decode(words, x, y, t, on)
    return Events(x, y, t, on, sensor)


@functools.cache
def _compiled() -> Callable[..., tuple[int, int]]:
    """:func:`_decode_evt3` as machine code; compiling it takes a second."""
    import numba

    return numba.njit(_decode_evt3)  # type: ignore[no-any-return]


def _decode_evt3(words: np.ndarray, x: np.ndarray, y: np.ndarray, t: np.ndarray, on: np.ndarray) -> tuple[int, int]:
    """Write the events to arrays, as many as they hold; returns their number, and the number of a word with a column outside, or -1."""
    count = 0
    wrong = -1
    row = 0
    base = 0
    polarity = False
    high, low, laps = -1, 0, 0  # bits of the time, the upper ones unknown yet; overflows of the 24 bits
    for i in range(len(words)):
        kind = int(words[i]) >> 12
        value = int(words[i]) & 0xFFF
        if kind == 0:
            row = value % SIDE
        elif kind == 3:
            base = value % SIDE
            polarity = value >= SIDE
        elif kind == 6 or kind == 8:
            before = high << 12 | low
            if kind == 6:
                low = value
            elif high < 0:
                high = value
                low = 0
                before = value << 12
            elif value != high:  # the lower bits that go with them follow
                high = value
                low = 0
            if high >= 0:
                step = (high << 12 | low) - before
                laps += int(step < -HALF) - int(step > HALF)
        elif kind == 2 or kind == 4 or kind == 5:
            width = 1 if kind == 2 else 12 if kind == 4 else 8
            for bit in range(width):
                if high < 0 or (kind != 2 and not value >> bit & 1):
                    continue
                column = value % SIDE if kind == 2 else base + bit
                if column >= SIDE and wrong < 0:
                    wrong = i
                if count < len(x):
                    x[count] = column
                    y[count] = row
                    on[count] = value >= SIDE if kind == 2 else polarity
                    t[count] = laps << 24 | high << 12 | low
                count += 1
            if kind != 2:
                base += width
    return count, wrong


def _check_types(kinds: np.ndarray, known: tuple[int, ...], at: int, width: int) -> None:
    right = np.isin(np.arange(16), known)[kinds]
    if not right.all():
        i = int((~right).argmax())
        raise damaged(f"byte {at + width * i}", f"a word of type {int(kinds[i])}", f"one of the types {[*known]}")


def _header(content: bytes) -> tuple[int, Sensor | None]:
    """(Where the events begin, (width, height) if the lines of text state both)."""
    start = 0
    while content[start : start + 2] in (b"% ", b"%\n", b"%\r"):  # events of files without "% end" may begin with this byte
        end = content.find(b"\n", start) + 1
        if not end:
            raise damaged(f"byte {start}", "an unterminated header line", "a line feed and events")
        line = content[start:end]
        start = end
        if line.strip() == b"% end":
            break
    text = content[:start].decode("latin-1").lower()
    stated = dict(re.findall(r"\b(width|height)[ =:]+(\d+)", text))
    if match := re.search(r"^% geometry (\d+)x(\d+)", text, re.MULTILINE):
        stated = {"width": match[1], "height": match[2]}
    if len(stated) < 2:
        return start, None
    width, height = (int(stated[side][:9]) for side in ("width", "height"))
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise damaged("byte 0", f"a sensor of {width}x{height}", f"sides of 1 to {LARGEST}")
    return start, (width, height)
