"""Batches: what a training step reads. Everything about them is a function of (seed, epoch, index)."""

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
        index: which batch of the epoch this is.
    """

    x: Tensor
    y: Tensor
    index: int


class Batches:
    """The batches of one epoch.

    ``len()`` is the number of batches of the whole epoch, wherever iteration starts.

    Args:
        split: samples.
        start: index of the first batch to give: an epoch that was interrupted goes on with the same batches.
        shuffle: a new order for each (seed, epoch); otherwise the split's own.
        drop_last: leave out a last batch that is not full, unless it is the only one.
        augment: names, comma-separated, or ``none``.
        mean, std: per channel on the 0..1 scale, for images.
        static: images rather than frames.
        workers: batches prepared ahead by as many threads; the batches are the same for any number.

    Raises:
        ConfigError: an augmentation that does not suit the data.
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
    ):
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

    def batch(self, index: int) -> Batch:
        """The batch of that index; whatever was asked for before, the same bits."""
        return self._finished(index, self._samples(index))

    def _rows(self, index: int) -> np.ndarray:
        return self.order[index * self.batch_size : (index + 1) * self.batch_size]

    def _samples(self, index: int) -> np.ndarray:
        """The samples of a batch (B, ...), augmented; what threads do ahead. Frames stay as they are stored."""
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
        """Converted, and frames laid out time-first, in one copy by torch: numpy takes 30 times as long for float16."""
        x, y = torch.from_numpy(samples), torch.from_numpy(self.split.y[self._rows(index)])
        if not self.static:
            x = x.transpose(0, 1)
        return Batch(x if self.static else torch.empty(x.shape).copy_(x), y, index)

    def _changed(self, rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Frames made anew, after the augmentations of events."""
        assert self.split.live is not None  # chain() has seen that the data are recordings

        def change(position: int, events: Events, sensor: tuple[int, int]) -> Events:
            for one in self.of_events:
                events = one(events, sensor, random.generator(self.seed, self.epoch, ids[position], f"augment/{one.name}"))
            return events

        return self.split.live.frames(rows, change)

    def _draws(self, ids: np.ndarray, one: Augmentation) -> np.ndarray:
        return random.uniforms(self.seed, self.epoch, ids, one.n, f"augment/{one.name}")


def _arrived(ahead: deque[tuple[int, Future[np.ndarray]]]) -> tuple[int, np.ndarray]:
    """The first batch of those under way, when it is there."""
    index, future = ahead.popleft()
    return index, future.result()


def batches(bundle: DataBundle, split: Split, batch_size: int, **options: Any) -> Batches:
    """:class:`Batches` of a part of ``bundle``, normalised as the bundle says; further options as there."""
    return Batches(split, batch_size, mean=bundle.mean, std=bundle.std, static=bundle.static, **options)


def _column(values: Sequence[float] | None) -> np.ndarray | None:
    """(C, 1, 1), to broadcast over (B, C, H, W)."""
    return None if values is None else np.array(list(values), dtype=np.float32).reshape(-1, 1, 1)
