"""Incremental slicing of a stream of events, consistent with the slicing of recordings in :mod:`lsgcli.data.frames`."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lsgcli.data.events import Events, joined
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
        self.waiting = 0  # number of these events
        self.index = 0  # of the open slice
        self.start = 0  # time of the first event
        self.last: int | None = None  # time of the last event, as it says
        self.now = self.place = 0  # place of the last event, and the largest: events, or microseconds from the first

    def push(self, events: Events) -> Iterator[Slice]:
        """The slices completed by these events; a slice of equal duration is completed by a later event.

        Raises:
            DataError: a slice contains too many events, for example because time does not advance.
        """
        if not len(events):
            return
        self.pieces.append((events, self._places(events.t)))
        self.waiting += len(events)
        yield from self._complete(self.place)
        if self.waiting > MOST:
            raise DataError(
                f"{self.name}: found over {MOST:,} events in one slice, expected fewer",
                hint="The time of the recording does not advance.",
            )

    def end(self) -> Iterator[Slice]:
        """The last slice, if the last event is in its last microsecond."""
        yield from self._complete(self.place if self.by_count else self.place + 1)

    def _places(self, t: np.ndarray) -> np.ndarray:
        if self.by_count:
            self.place += len(t)
            return np.arange(self.place - len(t), self.place)
        if self.last is None:
            self.start = self.last = int(t[0])
        step = np.diff(t, prepend=self.last)
        step[(step < -LATE) | (step > PAUSE)] = 0
        now = self.now + np.cumsum(step)
        places = np.maximum(np.maximum.accumulate(now), self.place)
        self.last, self.now, self.place = int(t[-1]), int(now[-1]), int(places[-1])
        return np.asarray(places)

    def _complete(self, reached: int) -> Iterator[Slice]:
        end = (self.index + 1) * self.length // self.T
        if end > reached or not self.pieces:
            return
        events, places = joined([events for events, _ in self.pieces]), np.concatenate([places for _, places in self.pieces])
        while end <= reached:
            n = int(np.searchsorted(places, end))
            if self.by_count:
                t_us = (int(events.t[0]), int(events.t[n - 1])) if n else (0, 0)
            else:
                t_us = self.start + self.index * self.length // self.T, self.start + end
            yield Slice(events[:n], t_us)
            events, places, self.index = events[n:], places[n:], self.index + 1
            end = (self.index + 1) * self.length // self.T
        self.pieces, self.waiting = [(events, places)], len(events)
