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

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import damaged
from lsgcli.data.readers.base import reader
from lsgcli.data.readers.parsing import check_memory, table, unwrap, whole
from lsgcli.registry import register

LARGEST = 1 << 14  # coordinates of a .dat have 14 bits, those of EVT 11
CHUNK = 1 << 15  # words decoded at once, so that intermediate results fit into the CPU cache
EVT = rb"(?:%.*\n)*% (?:evt |format EVT)"
OTHER = (10, 14, 15)  # types of words that both EVT formats pass over
HIGH = 8  # the upper bits of the time
EVT2 = np.isin(np.arange(16), (0, 1, HIGH, *OTHER))
ROW, PIXEL, BASE, VECTOR_12, VECTOR_8, LOW = 0, 2, 3, 4, 5, 6
EVT3 = np.isin(np.arange(16), (ROW, PIXEL, BASE, VECTOR_12, VECTOR_8, LOW, 7, HIGH, 12, *OTHER))
SIDE = 1 << 11
STEPS = np.zeros(16, np.int32)  # pixels by which a word of each type advances the vector
STEPS[[VECTOR_12, VECTOR_8]] = 12, 8
BITS = [[bit for bit in range(12) if mask >> bit & 1] for mask in range(1 << 12)]  # that are set in a number of 12 bits
COUNT = np.array([len(bits) for bits in BITS])
FIRST = np.cumsum(COUNT) - COUNT
BIT = np.concatenate([np.array(bits, np.int32) for bits in BITS])  # those of mask m from FIRST[m] on


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
    x, y = (place & 0x3FFF).astype(np.uint16), (place >> 14 & 0x3FFF).astype(np.uint16)
    return Events(x, y, unwrap(t, 1 << 32), (place >> 28 & 1).astype(bool), sensor)


@register("reader", "prophesee-evt2")
@reader(".raw", magic=EVT + rb"2(?:\.0)?(?![.\d])")
def evt2(path: Path) -> Events:
    """Events of EVT 2.0 files; new ones state their sensor, old ones do not."""
    content = path.read_bytes()
    start, sensor = _header(content)
    events = whole(_evt2(table(content, start, "<u4"), start))
    return replace(events, t=unwrap(events.t, 1 << 34), sensor=sensor)


def _evt2(words: np.ndarray, start: int) -> Iterator[Events]:
    """The events of each chunk of words."""
    begin, high = 0, np.int64(-1)  # the upper bits of the time
    for begin in range(0, len(words), CHUNK):
        part = words[begin : begin + CHUNK]
        kinds = (part >> 28).astype(np.uint8)
        _check_types(kinds, EVT2, start + 4 * begin, 4)
        timed = np.flatnonzero(kinds == HIGH)
        time = _latest(timed, (part[timed] & 0xFFFFFFF).astype(np.int64), high, len(part))
        events = kinds < 2
        if high < 0:
            events &= time >= 0
        high = time[-1]
        word = part[events]
        t = time[events] << 6
        t |= word >> 22 & 0x3F
        x, y = (word >> 11 & 0x7FF).astype(np.uint16), (word & 0x7FF).astype(np.uint16)
        yield Events(x, y, t, (word >> 28).astype(bool))


@register("reader", "prophesee-evt3")
@reader(".raw", magic=EVT + rb"3(?:\.0)?(?![.\d])")
def evt3(path: Path) -> Events:
    """Events of EVT 3.0 files; new ones state their sensor, old ones do not."""
    content = path.read_bytes()
    start, sensor = _header(content)
    return replace(whole(_evt3(table(content, start, "<u2"), start)), sensor=sensor)


def _evt3(words: np.ndarray, start: int) -> Iterator[Events]:
    """The events of each chunk of words."""
    first = int(((words >> 12) == HIGH).argmax())  # the times of events before it are not known
    if words[first] >> 12 != HIGH:
        return
    state, total = _Evt3(int(words[first]) & 0xFFF), 0
    for begin, end in pairwise([*range(0, first, CHUNK), *range(first, len(words), CHUNK), len(words)]):
        part = words[begin:end]
        kinds = (part >> 12).astype(np.uint8)
        _check_types(kinds, EVT3, start + 2 * begin, 2)
        word, x, y, on = state.pixels(part, kinds)
        if begin < first:
            continue
        if len(x) and int(x.max()) >= SIDE:
            i = int((x >= SIDE).argmax())
            raise damaged(f"byte {start + 2 * (begin + int(word[i]))}", f"an event at x={x[i]}", f"x below {SIDE}")
        total += len(x)
        check_memory(2 * len(words), 34 * total, f"{total:,} events and more")
        yield Events(x.astype(np.uint16), y, state.times(part, kinds)[word], on)


class _Evt3:
    """Decoder with the state after the words so far; of the time, from the first upper bits on."""

    def __init__(self, upper: int) -> None:
        self.row, self.base, self.on = np.uint16(0), 0, False  # column and polarity of the first pixel of the vector
        self.upper, self.lower, self.laps = upper, 0, 0  # bits of the time; overflows of the 24 bits

    def times(self, words: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """(n,) int64: the time in microseconds at each word."""
        places = np.flatnonzero((kinds == HIGH) | (kinds == LOW))
        # Prepend the state after the previous words.
        high = np.append(True, kinds[places] == HIGH)
        value = np.append(self.upper, words[places] & 0xFFF).astype(np.int64)
        index = np.arange(len(value))
        upper = value[np.maximum.accumulate(np.where(high, index, 0))]
        # New upper bits come before the lower bits that go with them: until then these are 0, not those of the time before.
        fresh = np.append(True, upper[1:] != upper[:-1])
        last = np.maximum.accumulate(np.where(fresh | ~high, index, 0))
        lower = np.where(last == 0, self.lower, np.where(high[last], 0, value[last]))
        time = upper << 12 | lower
        step = np.diff(time)
        half = 1 << 23
        laps = self.laps + np.append(0, np.cumsum((step < -half).astype(np.int64) - (step > half)))
        self.upper, self.lower, self.laps = int(upper[-1]), int(lower[-1]), int(laps[-1])
        time += laps << 24
        return _latest(places, time[1:], time[0], len(words))

    def pixels(self, words: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(Number of the word, column, row, polarity) of each event, (N,) each."""
        value, upper, n = words & (SIDE - 1), (words & SIDE).astype(bool), len(words)
        rows, bases = np.flatnonzero(kinds == ROW), np.flatnonzero(kinds == BASE)
        row = _latest(rows, value[rows], self.row, n)
        events = np.flatnonzero((kinds == PIXEL) | (kinds == VECTOR_12) | (kinds == VECTOR_8))
        word, kind = words[events], kinds[events]
        self.row = row[-1]
        if not len(bases) and (kind == PIXEL).all():
            return events, value[events], row[events], upper[events]
        step = STEPS[kinds]
        moved = np.cumsum(step) - step  # by vectors before this word
        base = _latest(bases, value[bases] - moved[bases], self.base, n) + moved
        on = _latest(bases, upper[bases], self.on, n)
        self.base, self.on = int(base[-1] + step[-1]), bool(on[-1])
        pixel = kind == PIXEL
        mask = np.where(pixel, 1, word & np.where(kind == VECTOR_12, 0xFFF, 0xFF))
        count = COUNT[mask]
        place = np.repeat(np.arange(len(events)), count)
        bit = BIT[np.arange(len(place)) + np.repeat(FIRST[mask] - (np.cumsum(count) - count), count)]
        column, polarity = np.where(pixel, value[events], base[events]), np.where(pixel, upper[events], on[events])
        return events[place], column[place] + bit, row[events][place], polarity[place]


def _latest(places: np.ndarray, values: np.ndarray, before: object, n: int) -> np.ndarray:
    """(n,): for each of n words the value of the last of ``places`` up to it, or ``before``."""
    edges = np.concatenate(([0], places, [n]))
    return np.repeat(np.append(np.asarray(before, values.dtype), values), np.diff(edges))


def _check_types(kinds: np.ndarray, known: np.ndarray, at: int, width: int) -> None:
    right = known[kinds]
    if not right.all():
        i = int((~right).argmax())
        expected = f"one of the types {np.flatnonzero(known).tolist()}"
        raise damaged(f"byte {at + width * i}", f"a word of type {int(kinds[i])}", expected)


def _header(content: bytes) -> tuple[int, tuple[int, int] | None]:
    """(Where the events begin, (width, height) if the lines of text state both)."""
    start = 0
    while content[start : start + 2] in (b"% ", b"%\n", b"%\r"):  # events of files without "% end" may begin with this byte
        end = content.find(b"\n", start) + 1
        if not end:
            raise damaged(f"byte {start}", "an unterminated header line", "a line feed and events")
        line, start = content[start:end], end
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
