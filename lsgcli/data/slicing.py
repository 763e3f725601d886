"""Incremental slicing of a stream of events, consistent with the slicing of recordings in :mod:`lsgcli.data.frames`."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lsgcli.data.events import Events
from lsgcli.errors import DataError

LATE = 10_000  # microseconds that an event may come late
PAUSE = 60_000_000  # microseconds without an event that are taken for a pause
MOST = 1 << 24  # events of a slice


class Slice(NamedTuple):
    """The events of a slice, and its start and end in microseconds of the recording."""

    events: Events
    t_us: tuple[int, int]


class Slicer:
    """Divides a stream of events into slices, ``T`` of which have ``length`` events (``count``) or microseconds.

    Slice k starts at k * length // T. Time is computed from differences between events: a late event is counted in the current slice;
    a step back of more than 10 ms, or ahead of more than a minute, is treated as a clock adjustment, and time continues from the
    previous event.

    Args:
        by_count: slices of equal event count, instead of equal duration.
        name: name of the stream, for messages.
    """

    def __init__(self, by_count: bool, T: int, length: int, name: str):
        self.by_count, self.T, self.length, self.name = by_count, T, length, name
        self.pieces: list[tuple[Events, np.ndarray]] = []  # events of the open slice, and their places
        self.waiting = 0  # how many they are
        self.index = 0  # of the open slice
        self.start = 0  # time of the first event
        self.last: int | None = None  # time of the last event, as it says
        self.seen = 0  # events so far
        self.now = self.place = 0  # where the last event lies, and the furthest: events, or microseconds from the first

    def push(self, events: Events) -> Iterator[Slice]:
        """The slices completed by these events; a slice of equal duration is completed by a later event.

        Raises:
            DataError: a slice contains too many events, for example because time does not advance.
        """
        if not len(events):
            return
        places = self._by_count(len(events)) if self.by_count else self._by_time(events.t)
        self.pieces.append((events, places))
        self.seen += len(events)
        self.waiting += len(events)
        yield from self._whole(self.place)
        if self.waiting > MOST:
            raise DataError(
                f"{self.name}: found over {MOST:,} events in one slice, expected fewer",
                hint="The time of the recording does not advance.",
            )

    def end(self) -> Iterator[Slice]:
        """The last slice, if the last event is in its last microsecond."""
        yield from self._whole(self.place if self.by_count else self.place + 1)

    def _border(self, index: int) -> int:
        return index * self.length // self.T

    def _by_count(self, n: int) -> np.ndarray:
        places = np.arange(self.place, self.place + n)
        self.place += n
        return places

    def _by_time(self, t: np.ndarray) -> np.ndarray:
        if self.last is None:
            self.start = self.last = int(t[0])
        step = np.diff(t, prepend=self.last)
        step[(step < -LATE) | (step > PAUSE)] = 0
        now = self.now + np.cumsum(step)
        places = np.maximum(np.maximum.accumulate(now), self.place)
        self.last, self.now, self.place = int(t[-1]), int(now[-1]), int(places[-1])
        return np.asarray(places)

    def _whole(self, reached: int) -> Iterator[Slice]:
        if self._border(self.index + 1) > reached or not self.pieces:
            return
        columns = zip(*((e.x, e.y, e.t, e.on, places) for e, places in self.pieces), strict=True)
        x, y, t, on, places = (np.concatenate(column) for column in columns)
        events = Events(x, y, t, on, self.pieces[0][0].sensor)
        start = 0
        while (border := self._border(self.index + 1)) <= reached:
            end = int(np.searchsorted(places, border))
            cut = _part(events, start, end)
            if self.by_count:
                t_us = (int(cut.t[0]), int(cut.t[-1])) if len(cut) else (0, 0)
            else:
                t_us = self.start + self._border(self.index), self.start + border
            self.index, start = self.index + 1, end
            yield Slice(cut, t_us)
        self.pieces, self.waiting = [(_part(events, start, len(events)), places[start:])], len(events) - start


def _part(events: Events, start: int, end: int) -> Events:
    part = slice(start, end)
    return Events(events.x[part], events.y[part], events.t[part], events.on[part], events.sensor)
