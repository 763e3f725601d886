"""Prophesee EVT 3.0 (``.raw``): words of 16 bits, little-endian, that change a state or are events.

The top 4 bits of a word are its type: 0 the row; 2 an event (bit 11 polarity, bits 0-10 column); 3 polarity and column of
the first pixel of a vector; 4 and 5 the next 12 or 8 pixels of the vector, a bit each; 6 the lower and 8 the upper 12 bits
of the time in microseconds. The types 7, 10, 12, 14 and 15 are no events of pixels and are passed over; others do not exist.
Events before the first word of type 8 are left out: nobody knows their time.

The library ``expelliarmus`` agrees with this reader about places and polarities, not about times: it counts every step
back of the lower bits as 4096 us more, though the upper bits are in the file (a recording of 9 ms becomes 54 ms). Hence an
own reader. Source: https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.data.guard import check_inside, check_memory, damaged, foreign
from lsgcli.data.readers import prophesee
from lsgcli.registry import register

WORD = 2  # bytes
ROW, PIXEL, BASE, VECTOR_12, VECTOR_8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8
TYPES = (ROW, PIXEL, BASE, VECTOR_12, VECTOR_8, TIME_LOW, 7, TIME_HIGH, 10, 12, 14, 15)
WRAP = 1 << 24  # microseconds
LOOK = 1 << 14  # words that are looked at at once
CHUNK = 1 << 12  # words that are decoded at once
LAPS = 1 << 30  # added while times below 0 stand for those that are not known: a late event may be from the lap before
KNOWN = np.isin(np.arange(16), TYPES)
MORE = 3 << 20  # bytes that decoding a chunk takes at most
SIDE = 1 << 11  # coordinates have 11 bits
BITS = np.unpackbits(np.arange(4096, dtype=">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, :3:-1].astype(bool)
COUNTS = BITS.sum(axis=1).astype(np.uint8)  # of bits in a number of 12 bits
STEPS = np.zeros(16, np.int32)  # pixels that a word of a type moves the vector on
STEPS[[VECTOR_12, VECTOR_8]] = 12, 8


@register("reader", "prophesee-evt3")
class PropheseeEvt3:
    """Events of EVT 3.0 files; new ones state their sensor, old ones do not."""

    suffixes = (".raw",)

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"%") and prophesee.encoding(head) == "3.0"

    @staticmethod
    def read(path: Path, sensor: tuple[int, int] | None = None) -> Events:
        """All events of the file."""
        with foreign(path, "an EVT 3.0 recording"):
            content = path.read_bytes()
        found = prophesee.header(path, content)
        prophesee.need(path, found, "3.0")
        words = _words(path, content, found.start)
        groups = _groups(path, words, len(content), found.start)
        return _decode(path, words, groups, found, sensor)


@dataclass
class Groups:
    """Runs of events that share their time; G groups, in the order of the file.

    Attributes:
        begin: (G,) number of the first word with an event, uint32.
        time: (G,) microseconds, int64.
        shift: (G,) how much further back in order of time its events are than in the file, int32.
        count: how many events there are in all.
    """

    begin: np.ndarray
    time: np.ndarray
    shift: np.ndarray
    count: int


def _words(path: Path, content: bytes, start: int) -> np.ndarray:
    if (len(content) - start) % WORD:
        raise damaged(path, f"byte {len(content) - 1}", "1 byte", f"words of {WORD} bytes: it is cut off")
    return np.frombuffer(content, "<u2", offset=start)


def _groups(path: Path, words: np.ndarray, size: int, start: int) -> Groups:
    """Where in order of time the events belong: a first look at all words, which keeps little of them."""
    clock, held, total, groups = _Clock(), size + MORE, 0, 0
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for a in range(0, len(words), LOOK):
        part = words[a : a + LOOK]
        kinds = (part >> 12).astype(np.uint8)
        known = KNOWN[kinds]
        if not known.all():
            i = int((~known).argmax())
            where = f"byte {start + WORD * (a + i)}"
            raise damaged(path, where, f"a word of type {int(kinds[i])}", f"one of the types {TYPES}")
        time = clock.times(part, kinds)
        count = _count(part, kinds)
        count[time < 0] = 0
        events = np.flatnonzero(count)
        if not len(events):
            continue
        time, count = time[events], count[events]
        first = np.flatnonzero(np.append(True, time[1:] != time[:-1]))
        each = np.add.reduceat(count, first, dtype=np.int32)
        found.append(((events[first] + a).astype(np.uint32), time[first], each))
        total, groups = total + int(each.sum()), groups + len(first)
        check_memory(path, size, held + 13 * total + 16 * groups, f"{total:,} events and more")
        check_memory(path, size, held + 24 * groups, f"{total:,} events and more")
    if not total:
        raise damaged(path, f"byte {start}", "no event with a time", "at least one")
    begin, time, each = (np.concatenate(columns) for columns in zip(*found, strict=True))
    found.clear()
    shift = np.zeros(groups, np.int32)
    if (time[1:] < time[:-1]).any():
        check_memory(path, size, held + 40 * groups, f"{total:,} events out of order")
        order = np.argsort(time, kind="stable")
        shift[order] = _before(each[order])
        shift -= _before(each)
    return Groups(begin, time, shift, total)


def _before(each: np.ndarray) -> np.ndarray:
    """The sum of all numbers before each, int32."""
    total = np.cumsum(each, dtype=np.int32)
    total -= each
    return total


class _Clock:
    """The time after the words so far."""

    def __init__(self) -> None:
        self.upper = -1  # not known yet
        self.lower = 0
        self.laps = 0  # how often the 24 bits have passed their end

    def times(self, words: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Microseconds at each word, below 0 before the first word of the upper bits; (n,) int64."""
        timed = (kinds == TIME_HIGH) | (kinds == TIME_LOW)
        places = np.flatnonzero(timed)
        # A word before all others that stands for what was known before them.
        high = np.append(True, kinds[places] == TIME_HIGH)
        value = np.append(self.upper, words[places].astype(np.int64) & 0xFFF)
        index = np.arange(len(value))
        upper = value[np.maximum.accumulate(np.where(high, index, 0))]
        # New upper bits come before the lower bits that go with them: until then these are 0, not those of the time before.
        fresh = np.append(True, upper[1:] != upper[:-1])
        last = np.maximum.accumulate(np.where(fresh | ~high, index, 0))
        lower = np.where(last == 0, self.lower, np.where(high[last], 0, value[last]))
        time = upper << 12 | lower
        step = np.diff(time)
        step[upper[:-1] < 0] = 0
        laps = np.append(0, np.cumsum((step < -WRAP // 2).astype(np.int64) - (step > WRAP // 2))) + self.laps
        self.upper, self.lower, self.laps = int(upper[-1]), int(lower[-1]), int(laps[-1])
        time = np.where(upper < 0, -1, time + (laps + LAPS) * WRAP)
        return time[np.cumsum(timed, dtype=np.int32)]


def _count(words: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """How many events each word is, uint8."""
    count = (kinds == PIXEL).astype(np.uint8)
    for kind, mask in ((VECTOR_12, 0xFFF), (VECTOR_8, 0xFF)):
        places = kinds == kind
        count[places] = COUNTS[words[places] & mask]
    return count


def _decode(path: Path, words: np.ndarray, groups: Groups, found: prophesee.Header, sensor: tuple[int, int] | None) -> Events:
    x, y = np.empty(groups.count, np.uint16), np.empty(groups.count, np.uint16)
    t, on = np.empty(groups.count, np.int64), np.empty(groups.count, bool)
    groups.time -= LAPS * WRAP
    state, done, first = _State(), 0, int(groups.begin[0])
    for a in range(0, len(words), CHUNK):
        part = words[a : a + CHUNK]
        word, column, row, polarity = state.events(part)
        if a < first:
            timed = int(np.searchsorted(word, first - a))
            word, column, row, polarity = word[timed:], column[timed:], row[timed:], polarity[timed:]
        for limit in ((SIDE, SIDE), found.sensor, sensor):
            check_inside(path, column, row, limit, partial(_where, found.start + WORD * a, word))
        group = np.searchsorted(groups.begin, (word + a).astype(np.uint32), "right") - 1
        place = groups.shift[group] + np.arange(done, done + len(word))
        x[place], y[place], t[place], on[place] = column, row, groups.time[group], polarity
        done += len(word)
    return Events(x, y, t, on, found.sensor)


def _where(start: int, word: np.ndarray, i: int) -> str:
    return f"byte {start + WORD * int(word[i])}"


class _State:
    """What the words so far have set."""

    def __init__(self) -> None:
        self.row = 0
        self.base = 0  # of the vector
        self.polarity = False  # of the vector

    def events(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(Number of the word, column, row, polarity) of each event in the words, (n,) each."""
        kinds = (words >> 12).astype(np.uint8)
        value = (words & SIDE - 1).astype(np.int32)
        upper = words & SIDE != 0
        index = np.arange(len(words))

        def last(kind: int) -> np.ndarray:
            return np.maximum.accumulate(np.where(kinds == kind, index, -1))

        known = last(ROW)
        row = np.where(known >= 0, value[known], self.row)
        known = last(BASE)
        polarity = np.where(known >= 0, upper[known], self.polarity)
        step = STEPS[kinds]
        moved = np.cumsum(step) - step  # by vectors before this word
        base = np.where(known >= 0, value[known] - moved[known], self.base) + moved
        self.row, self.base, self.polarity = int(row[-1]), int(base[-1] + step[-1]), bool(polarity[-1])

        pixel = kinds == PIXEL
        mask = np.where(kinds == VECTOR_12, words & 0xFFF, np.where(kinds == VECTOR_8, words & 0xFF, pixel))
        column, polarity = np.where(pixel, value, base), np.where(pixel, upper, polarity)
        word = np.flatnonzero(mask)
        place, bit = np.nonzero(BITS[mask[word]])
        word = word[place]
        return word, column[word] + bit, row[word], polarity[word]
