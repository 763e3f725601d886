"""Batches, which are a pure function of (seed, epoch, index)."""

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.data import random
from lsgcli.data.augment import Augmentation, EventAugmentation, chain
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.data.events import Events


@dataclass(frozen=True)
class Batch:
    """B samples.

    Attributes:
        x: float32, images (B, C, H, W) normalised per channel, or frames of counts (T, B, 2, H, W).
        y: (B,) int64 labels.
        index: index of the batch in the epoch.
        total: number of samples of the batch in all processes; None if this process has all of them.
    """

    x: Tensor
    y: Tensor
    index: int
    total: int | None = None

    def first(self, n: int) -> "Batch":
        """The first n samples."""
        return Batch(self.x[:, :n] if self.x.dim() == 5 else self.x[:n], self.y[:n], self.index)


def shares(total: int, parts: int, rank: int = 0, size: int = 1) -> list[np.ndarray]:
    """The samples of a process in each part of a batch of ``total`` samples.

    The batch is split into ``parts`` parts, or into single samples if it has fewer, and each part among ``size`` processes, as evenly
    as possible.
    """
    whole = np.array_split(np.arange(total), min(parts, total))
    return [np.array_split(part, size)[rank] for part in whole]


class Batches:
    """The batches of one epoch.

    ``len()`` is the number of batches of the whole epoch, independent of ``start``.

    Args:
        split: samples.
        start: index of the first batch, to resume an interrupted epoch with the same batches.
        shuffle: use a new order for each (seed, epoch), instead of the order of the split.
        drop_last: drop an incomplete last batch, unless it is the only one.
        augment: comma-separated names of augmentations, or ``none``.
        mean, std: per channel on the 0..1 scale, for images.
        static: whether samples are images rather than frames.
        workers: number of threads, each of which prefetches a batch; does not affect the batches.
        parts: number of parts into which a batch is split.
        share: (rank, size): load only the samples of one of ``size`` processes, which share each part.

    Raises:
        ConfigError: an augmentation does not support the data.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        augment: str | None = "none",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        static: bool,
        workers: int = 0,
        parts: int = 1,
        share: tuple[int, int] = (0, 1),
    ):
        self.parts, self.share = parts, share
        self.split, self.batch_size, self.static = split, batch_size, static
        self.seed, self.epoch, self.start, self.workers = seed, epoch, start, workers
        every = chain(augment, static)
        self.of_events = [one for one in every if isinstance(one, EventAugmentation)]
        self.early = [one for one in every if isinstance(one, Augmentation) and not one.late]
        self.late = [one for one in every if isinstance(one, Augmentation) and one.late]
        self.mean, self.std = _column(mean), _column(std)
        self.order = random.order(seed, epoch, split.ids) if shuffle else np.arange(len(split))
        whole, rest = divmod(len(split), batch_size)
        self.count = whole if drop_last and whole else whole + (rest > 0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        if self.workers < 1:
            yield from map(self.batch, range(self.start, self.count))
            return
        executor = ThreadPoolExecutor(self.workers, thread_name_prefix="batches")
        ahead: deque[tuple[int, Future[np.ndarray]]] = deque()
        try:
            for index in range(self.start, self.count):
                ahead.append((index, executor.submit(self._samples, index)))
                if len(ahead) > self.workers:
                    yield self._finished(*_arrived(ahead))
            while ahead:
                yield self._finished(*_arrived(ahead))
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def whole(self) -> "Batches":
        """The same batches with the samples of all processes."""
        every = copy.copy(self)
        every.share = (0, 1)
        return every

    def batch(self, index: int) -> Batch:
        """The batch with the given index, independent of earlier calls."""
        return self._finished(index, self._samples(index))

    def _rows(self, index: int) -> np.ndarray:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return rows[np.concatenate(shares(len(rows), self.parts, *self.share))]

    def _samples(self, index: int) -> np.ndarray:
        """The augmented samples of a batch (B, ...), in their stored data type; runs in prefetching threads."""
        rows = self._rows(index)
        ids = self.split.ids[rows]
        x = self._changed(rows, ids) if self.of_events else np.asarray(self.split.x[rows])
        for one in self.early:
            x = one(x, self._draws(ids, one))
        if self.static:
            x = x.astype(np.float32)
            x /= 255
            if self.mean is not None and self.std is not None:
                x -= self.mean
                x /= self.std
        for one in self.late:
            x = one(x, self._draws(ids, one))
        return np.ascontiguousarray(x)

    def _finished(self, index: int, samples: np.ndarray) -> Batch:
        """Convert to float32 and time-first layout in one copy by torch, which is 30 times as fast as numpy for float16."""
        x, y = torch.from_numpy(samples), torch.from_numpy(self.split.y[self._rows(index)])
        if not self.static:
            x = x.transpose(0, 1)
        total = min(self.batch_size, len(self.order) - index * self.batch_size)
        return Batch(x if self.static else torch.empty(x.shape).copy_(x), y, index, total)

    def _changed(self, rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Frames from recordings, with augmentations of events."""
        assert self.split.live is not None  # chain() has checked that the data are recordings

        def change(position: int, events: Events, sensor: tuple[int, int]) -> Events:
            for one in self.of_events:
                events = one(events, sensor, random.generator(self.seed, self.epoch, ids[position], f"augment/{one.name}"))
            return events

        return self.split.live.frames(rows, change)

    def _draws(self, ids: np.ndarray, one: Augmentation) -> np.ndarray:
        return random.uniforms(self.seed, self.epoch, ids, one.n, f"augment/{one.name}")


def _arrived(ahead: deque[tuple[int, Future[np.ndarray]]]) -> tuple[int, np.ndarray]:
    """Wait for the first prefetched batch."""
    index, future = ahead.popleft()
    return index, future.result()


def batches(bundle: DataBundle, split: Split, batch_size: int, **options: Any) -> Batches:
    """:class:`Batches` of a part of ``bundle``, with its normalisation; further options as there."""
    return Batches(split, batch_size, mean=bundle.mean, std=bundle.std, static=bundle.static, **options)


def _column(values: Sequence[float] | None) -> np.ndarray | None:
    """(C, 1, 1), to broadcast over (B, C, H, W)."""
    return None if values is None else np.array(list(values), dtype=np.float32).reshape(-1, 1, 1)
