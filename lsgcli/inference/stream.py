"""Classification of a recording while it is written, timestep by timestep, in slices like those of :mod:`lsgcli.data.frames`."""

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from lsgcli.data.datasets.base import EventDataset, Sample
from lsgcli.data.events import Events, joined
from lsgcli.data.frames import FULL, saturated
from lsgcli.data.guard import readable
from lsgcli.data.readers.base import read_stream
from lsgcli.errors import ConfigError, DataError, log
from lsgcli.export.runners import NetworkRunner, Stepwise, stepwise
from lsgcli.inference.predict import Answer, Network, check_finite
from lsgcli.models.base import SpikingNet
from lsgcli.system.device import full_precision, limited_threads

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
        self.by_count = by_count
        self.T = T
        self.length = length
        self.name = name
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
                "The time of the recording does not advance.",
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
        events = joined([events for events, _ in self.pieces])
        places = np.concatenate([places for _, places in self.pieces])
        while end <= reached:
            n = int(np.searchsorted(places, end))
            if self.by_count:
                t_us = (int(events.t[0]), int(events.t[n - 1])) if n else (0, 0)
            else:
                t_us = self.start + self.index * self.length // self.T, self.start + end
            yield Slice(events[:n], t_us)
            events = events[n:]
            places = places[n:]
            self.index += 1
            end = (self.index + 1) * self.length // self.T
        self.pieces, self.waiting = [(events, places)], len(events)


READ = 1 << 16  # bytes per read
LOOK = 0.2  # seconds between checks for a stop request while waiting
IDLE = 2.0  # seconds without growth after which a file is complete
GROWN = 0.02  # seconds between checks of a growing file
FEW = 150_000_000  # multiply-accumulates of a timestep up to which one thread is fastest; measured, see docs/performance.md


@dataclass(frozen=True)
class Timestep(Answer):
    """Prediction after a timestep of a stream.

    Attributes:
        window: index of the window, from 0; the network is reset to rest at the start of each window.
        step: timestep in the window, 1 to T.
        events: number of events in the timestep.
        t_us: start and end of the timestep, in microseconds of the recording.
        ready: time at which its last bytes were read, from :func:`time.perf_counter`.
    """

    window: int
    step: int
    events: int
    t_us: tuple[int, int]
    ready: float


def stream(
    network: Network,
    path: str = "-",
    *,
    per_slice: int | None = None,
    idle: float = IDLE,
    stop: Callable[[], Any] = lambda: False,
) -> Generator[Timestep]:
    """Classify a recording while it is written. Yields a prediction for each timestep.

    The network keeps its state between timesteps. After T timesteps it is reset to rest, the mean of the logits is reset, and a
    new window starts, as if it were a new recording.

    Args:
        network: a network trained on recordings.
        path: a file, which is read while it grows, or - for stdin.
        per_slice: events (``count``) or microseconds (``time``) per slice. Default: from the median training recording.
        idle: seconds without growth after which a file is complete.
        stop: the stream ends when it returns true.

    Raises:
        ConfigError: ``per_slice`` is below 1, or the network was trained on images, or with settings that require the complete
            recording.
        DivergedError: logits are not finite.
        DataError: the format does not support streams, or the stream is damaged; raised after the predictions for complete slices.
    """
    dataset = _dataset(network)
    T = network.config.T
    steps = _steps(network)
    rest = None
    threads = _threads(network, steps)
    slicer = Slicer(network.config.slicing == "count", T, _length(network, per_slice), path)
    state: tuple[torch.Tensor, ...] = ()
    total = torch.zeros(len(network.classes), dtype=torch.float64)
    chunks = Chunks(path, idle, stop)
    warned = False
    for index, cut in enumerate(_slices(network, dataset, slicer, chunks)):
        if stop():  # a chunk may complete any number of slices
            return
        window, step = divmod(index, T)
        frame = _frame(dataset, cut, path)
        if not warned and (warned := saturated(frame) > 0):
            log.warning("%s: timestep %d saturates at %d events per pixel; use a smaller --per-slice", path, index + 1, FULL)
        x = network.compute.move(network.batch([frame])[0])
        with limited_threads(threads), torch.inference_mode(), network.compute.context():
            rest = steps.rest(1) if rest is None else rest
            logits, state = steps.step(x, state if step else rest)
        now = full_precision(logits[0]).cpu()
        check_finite(now, path)
        total = total + now if step else now.double()
        answer = (path, network.classes, now, (total / (step + 1)).softmax(-1))
        yield Timestep(*answer, window, step + 1, len(cut.events), cut.t_us, chunks.ready)


def _dataset(network: Network) -> EventDataset:
    """The data set that converts a slice to a frame."""
    # Each slice is treated as a recording with one frame.
    dataset = network.dataset(T=1, slicing="count")
    if not isinstance(dataset, EventDataset):
        raise ConfigError("--stream: found a network trained on images, expected one trained on recordings", "Omit --stream.")
    if network.config.normalise == "sample":
        raise ConfigError(
            "--stream: found a network trained with --normalise sample, expected none or frame, because the maximum of a recording is"
            " known only at its end",
            "Omit --stream, or train with --normalise frame.",
        )
    if network.config.slicing == "window" and network.config.window_start != "first":
        log.warning(
            "--stream: found a network trained with --window-start %s; windows of a stream are contiguous from its first event",
            network.config.window_start,
        )
    return dataset


def _steps(network: Network) -> Stepwise:
    source = network.source
    if isinstance(source, NetworkRunner):
        source = source.network
    if isinstance(source, SpikingNet):
        return stepwise(source, network.stored)
    if isinstance(source, Stepwise):
        return source
    raise ConfigError(
        "--stream: found an export of all timesteps, expected an export of one timestep",
        "Export with --format onnx --mode step, or use the checkpoint.",
    )


def _threads(network: Network, steps: Stepwise) -> int:
    """Number of threads. For a small network 1, unless the number is set: waking other threads takes longer than they save."""
    is_set = network.config.threads or "OMP_NUM_THREADS" in os.environ
    return 1 if not is_set and 0 < steps.macs < FEW else torch.get_num_threads()


def _length(network: Network, per_slice: int | None) -> int:
    """Number of events, or of microseconds, in T slices."""
    config = network.config
    if config.slicing == "window":
        if per_slice is not None:
            raise ConfigError(
                f"--per-slice: found {per_slice}, but the network was trained with windows of {config.window_us} us",
                "Omit --per-slice.",
            )
        return config.T * config.window_us
    if per_slice is not None:
        if per_slice < 1:
            raise ConfigError(f"per_slice: found {per_slice}, expected at least 1")
        return config.T * per_slice
    unit = "events" if config.slicing == "count" else "duration_us"
    medians = network.stored["data"].get("medians")
    if medians is None:
        raise ConfigError(
            "--stream: found a checkpoint without the length of the training recordings",
            f"Give --per-slice N: {unit} of a training recording divided by {config.T}.",
        )
    return int(medians[unit])


def _frame(dataset: EventDataset, cut: Slice, path: str) -> np.ndarray:
    if not len(cut.events):
        return np.zeros(dataset.shape, dataset.dtype)
    return dataset.frames(cut.events, Sample(path, 0, "test", path))


def _slices(network: Network, dataset: EventDataset, slicer: Slicer, chunks: "Chunks") -> Iterator[Slice]:
    """Complete slices, as soon as their last bytes are read."""
    known = {name.removeprefix("reader ") for name in network.stored["data"].get("versions", {})}
    problem = None
    try:
        for form, events in read_stream(slicer.name, chunks, known, dataset.sensor):
            yield from slicer.push(dataset.upright(events, form))
    except DataError as error:
        problem = error
    yield from slicer.end()
    if problem is not None and not chunks.stop():  # a stopped stream may end within an event
        raise problem


class Chunks:
    """Chunks of a stream as they arrive. A pipe ends when its writer closes it.

    Attributes:
        ready: time of the last read, from :func:`time.perf_counter`.
    """

    def __init__(self, path: str, idle: float, stop: Callable[[], Any]):
        self.path, self.idle, self.stop, self.ready = path, idle, stop, time.perf_counter()

    def __iter__(self) -> Iterator[bytes]:
        path = self.path
        try:
            # Non-blocking: opening a FIFO without a writer would wait, and not notice a request to stop.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
            handle = sys.stdin.fileno() if path == "-" else os.open(path, flags)
        except (AttributeError, OSError, ValueError) as error:  # also if stdin is closed
            reason = "stdin is closed" if isinstance(error, AttributeError) else getattr(error, "strerror", None) or str(error)
            raise DataError(f"{path}: cannot be read: {reason}", "Check the path and its permissions.") from error
        grows = path != "-" and stat.S_ISREG(os.fstat(handle).st_mode)
        grown = time.monotonic()
        try:
            while not self.stop():
                if not grows and not select.select([handle], [], [], LOOK)[0]:
                    continue
                with readable(path, "Check what writes the stream."):
                    chunk = os.read(handle, READ)
                self.ready = time.perf_counter()
                if chunk:
                    grown = time.monotonic()
                    yield chunk
                elif not grows or time.monotonic() - grown >= self.idle:
                    return
                else:
                    time.sleep(GROWN)
        finally:
            if path != "-":
                os.close(handle)
