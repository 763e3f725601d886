"""A recording that is still being written, timestep by timestep: each is answered as soon as its events are in."""

import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lsgcli.compute import full_precision
from lsgcli.config import RunConfig
from lsgcli.data.datasets.base import EventDataset, Sample
from lsgcli.data.decoding import HEAD, decoder
from lsgcli.data.slicing import Slice, Slicer
from lsgcli.errors import ConfigError, DataError
from lsgcli.export import Stepwise
from lsgcli.export.network import NetworkRunner, SteppingRunner
from lsgcli.models.base import SpikingNet
from lsgcli.predict import Answer, Network

log = logging.getLogger("lsg")
READ = 1 << 16  # bytes at a time
LOOK = 0.2  # seconds after which a wait looks whether to stop
GROWN = 0.02  # seconds between two looks at a growing file


@dataclass(frozen=True)
class Timestep(Answer):
    """The answer after a timestep of a stream.

    Attributes:
        window: from 0; the network starts at rest in each.
        step: timestep in the window, 1 to T.
        events: number of events of the timestep.
        t_us: from when to when it lasts, in microseconds of the recording.
        ready: when its last bytes were read, on the clock of :func:`time.perf_counter`.
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
    idle: float = 2.0,
    stop: Callable[[], Any] = lambda: False,
) -> Generator[Timestep]:
    """Classify a recording while it is written: an answer for each timestep.

    The network keeps its state from one timestep to the next. After T timesteps it starts at rest, and the mean of the logits
    begins again: a new window, as if a new recording began.

    Args:
        network: trained on recordings.
        path: a file, which is followed while it grows; - for stdin.
        per_slice: events of a slice (``count``) or its microseconds (``time``); of the median recording of the training data if
            not given.
        idle: seconds without growth after which a file is complete.
        stop: the stream ends when this is true.

    Raises:
        ConfigError: a network of images, or settings that need the whole recording.
        DataError: the stream is of no format that can be read as it is written, or damaged; after the answers for what was whole.
    """
    dataset, T = _dataset(network), network.config.T
    steps, rest = _steps(network), None
    slicer = Slicer(network.config.slicing == "count", T, _length(network, per_slice), path)
    state: tuple[torch.Tensor, ...] = ()
    total = torch.zeros(len(network.classes), dtype=torch.float64)
    for index, (cut, ready) in enumerate(_slices(network, dataset, slicer, _chunks(path, idle, stop), stop)):
        window, step = divmod(index, T)
        x = network.compute.move(network.batch([_frame(dataset, cut, path)])[0])
        with torch.inference_mode(), network.compute.autocast():
            rest = steps.rest(1) if rest is None else rest
            logits, state = steps.step(x, state if step else rest)
        now = full_precision(logits[0]).cpu()
        total = total + now if step else now.double()
        answer = (path, network.classes, now, (total / (step + 1)).softmax(-1))
        yield Timestep(*answer, window, step + 1, len(cut.events), cut.t_us, ready)


def _dataset(network: Network) -> EventDataset:
    """What makes a frame of a slice."""
    # A slice is a recording of one frame.
    dataset = network.dataset(T=1, slicing="count")
    if not isinstance(dataset, EventDataset):
        raise ConfigError("--stream: found a network of images, expected one of recordings", hint="Omit --stream.")
    if network.config.normalise == "sample":
        raise ConfigError(
            "--stream: found a network trained with --normalise sample, expected none or frame: the maximum of a recording is known"
            " only at its end",
            hint="Omit --stream, or train with --normalise frame.",
        )
    if network.config.slicing == "window" and network.config.window_start != "first":
        log.warning(
            "--stream: found a network trained with --window-start %s; the windows of a stream follow each other from its first event",
            network.config.window_start,
        )
    return dataset


def _steps(network: Network) -> Stepwise:
    source = network.source
    if isinstance(source, NetworkRunner):
        source = source.network
    if isinstance(source, SpikingNet):
        return SteppingRunner(source, network.stored)
    if isinstance(source, Stepwise):
        return source
    raise ConfigError(
        "--stream: found an export of all timesteps at once, expected one that runs step by step",
        hint="Export it with --mode step (onnx, pt2), or give the checkpoint.",
    )


def _length(network: Network, per_slice: int | None) -> int:
    """Events or microseconds of T slices."""
    config: RunConfig = network.config
    if config.slicing == "window":
        if per_slice is not None:
            raise ConfigError(
                f"--per-slice: found {per_slice}, expected none: the network was trained with windows of {config.window_us} us",
                hint="Omit --per-slice.",
            )
        return config.T * config.window_us
    if per_slice is not None:
        return config.T * per_slice
    unit, name = ("events", "events") if config.slicing == "count" else ("microseconds", "duration_us")
    medians = network.stored["data"].get("medians")
    if medians is None:
        raise ConfigError(
            f"--stream: found a checkpoint of an earlier version, which does not say how many {unit} a slice has",
            hint=f"Give --per-slice N, in {unit}: those of a recording of the training data, divided by {config.T}.",
        )
    return int(medians[name])


def _frame(dataset: EventDataset, cut: Slice, path: str) -> np.ndarray:
    if not len(cut.events):
        return np.zeros(dataset.shape, dataset.dtype)
    return dataset.frames(cut.events, Sample(path, 0, "test", path))


def _slices(
    network: Network, dataset: EventDataset, slicer: Slicer, chunks: Iterator[tuple[bytes, float]], stop: Callable[[], Any]
) -> Iterator[tuple[Slice, float]]:
    """Slices that are whole, and when their last bytes were read."""
    known = [name.removeprefix("reader ") for name in network.stored["data"].get("versions", ())]
    decode = None
    for chunk, ready in _from_head(chunks, stop):
        if decode is None:
            form, decode = decoder(slicer.name, chunk, known, dataset.sensor)
        yield from ((cut, ready) for cut in slicer.push(dataset.upright(decode.feed(chunk), form)))
        decode.check()
    yield from ((cut, time.perf_counter()) for cut in slicer.end())
    if decode is None or stop():
        return  # told to end, wherever that is
    decode.end()
    if not slicer.seen:
        raise DataError(f"{slicer.name}: found no events, expected at least one", hint="Check what writes the stream.")


def _from_head(chunks: Iterator[tuple[bytes, float]], stop: Callable[[], Any]) -> Iterator[tuple[bytes, float]]:
    """The chunks, the first of them long enough to recognise a format by, unless there is no more."""
    head = b""
    for chunk, ready in chunks:
        head += chunk
        if len(head) >= HEAD:
            yield head, ready
            yield from chunks
            return
    if not stop():
        yield head, time.perf_counter()


def _chunks(path: str, idle: float, stop: Callable[[], Any]) -> Iterator[tuple[bytes, float]]:
    """The bytes of a stream as they come, and when each chunk was read. A pipe ends where its writer closes it."""
    try:
        handle = sys.stdin.fileno() if path == "-" else os.open(path, os.O_RDONLY)
    except (AttributeError, OSError, ValueError) as error:  # of a stdin that is closed, too
        told = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read: {told}", hint="Check the path and its permissions.") from error
    grows = path != "-" and stat.S_ISREG(os.fstat(handle).st_mode)
    grown = time.monotonic()
    try:
        while not stop():
            if not grows and not select.select([handle], [], [], LOOK)[0]:
                continue
            chunk = os.read(handle, READ)
            if chunk:
                grown = time.monotonic()
                yield chunk, time.perf_counter()
            elif not grows or time.monotonic() - grown >= idle:
                return
            else:
                time.sleep(GROWN)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check what writes the stream.") from error
    finally:
        if path != "-":
            os.close(handle)
