"""Batches, which are a pure function of (seed, epoch, index), and Mixup and CutMix, which mix the samples of a batch."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli import registry
from lsgcli.config.data import DataConfig
from lsgcli.data import parallel, random
from lsgcli.data.augment import Augmentation, chain
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.errors import ConfigError, refuse


class Draw(NamedTuple):
    """How a batch is mixed.

    Attributes:
        weight: of each sample; its partner has 1 - weight.
        box: top, bottom, left, right of the pixels taken from the partner (CutMix); None for Mixup.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


class Mixing(NamedTuple):
    """Settings of the mixing.

    Sample i of a batch of n samples, in random order, has the partner n - 1 - i. All samples of a batch have the same weight and box,
    which depend on seed, epoch and index of the batch.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix", ICCV 2019.

    Attributes:
        config: provides ``mixup`` and ``cutmix``, a of Beta(a, a) from which the weight is drawn, and ``mix_prob``.
        classes: number of classes.
    """

    config: DataConfig
    classes: int

    def draw(self, seed: int, epoch: int, index: int, size: tuple[int, int]) -> Draw | None:
        """How batch ``index`` of samples of ``size`` (H, W) is mixed; None if it is not.

        The box of CutMix has a random centre and may extend beyond the image; the weight is the fraction of pixels outside of it.
        """
        mixup = self.config.mixup
        cutmix = self.config.cutmix
        until = self.config.mix_until
        if not (mixup or cutmix) or (until is not None and epoch >= until):
            return None
        rng = random.generator(seed, epoch, np.uint64(index), "mix")
        if rng.random() >= self.config.mix_prob:
            return None
        cuts = rng.random() < 0.5 if mixup and cutmix else cutmix > 0
        a = cutmix if cuts else mixup
        weight = rng.beta(a, a)
        if not cuts:
            return Draw(weight)
        edges = []
        for length in size:
            half = int(length * np.sqrt(1 - weight)) // 2
            centre = int(rng.integers(length))
            edges += [max(0, centre - half), min(length, centre + half)]
        top, bottom, left, right = edges
        return Draw(1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))

    def __call__(self, draw: Draw, x: Tensor, y: Tensor, own: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed samples and labels.

        Args:
            x: (T, N, C, H, W) or (N, C, H, W) float32.
            y: (N,) labels.
            own, partners: (B,) indices of the samples and their partners among the N.

        Returns:
            x like the argument, with B samples, and (B, classes) float32 probabilities.
        """
        axis = x.dim() - 4
        mixed = x.index_select(axis, own)
        other = x.index_select(axis, partners)
        if draw.box is None:
            mixed.mul_(draw.weight).add_(other, alpha=1 - draw.weight)
        else:
            top, bottom, left, right = draw.box
            mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        labels = F.one_hot(y, self.classes).to(torch.float32)
        return mixed, draw.weight * labels[own] + (1 - draw.weight) * labels[partners]


@dataclass(frozen=True)
class Batch:
    """B samples.

    Attributes:
        x: float32, images (B, C, H, W) normalised per channel, or frames of counts (T, B, 2, H, W).
        y: (B,) int64 labels, or (B, classes) float32 probabilities of mixed samples.
        index: index of the batch in the epoch.
        total: number of samples of the batch in all processes; None if this process has all of them.
        samples: (B,) int64, a random number for each sample, see :mod:`lsgcli.neurons.layer`; None for torch's generator.
    """

    x: Tensor
    y: Tensor
    index: int
    total: int | None = None
    samples: Tensor | None = None


def shares(total: int, parts: int, rank: int = 0, size: int = 1) -> list[np.ndarray]:
    """The samples of a process in each part of a batch of ``total`` samples.

    The batch is split into ``parts`` parts, or into single samples if it has fewer, and each part among ``size`` processes, as evenly
    as possible.
    """
    whole = np.array_split(np.arange(total), min(parts, total))
    return [np.array_split(part, size)[rank] for part in whole]


@dataclass
class Batches:
    """The batches of one epoch.

    ``len()`` is the number of batches of the whole epoch, independent of ``start``.

    Attributes:
        split: samples.
        static: whether samples are images rather than frames.
        mean, std: per channel on the 0..1 scale, for images.
        start: index of the first batch, to resume an interrupted epoch with the same batches.
        shuffle: use a new order for each (seed, epoch), instead of the order of the split.
        drop_last: drop an incomplete last batch, unless it is the only one.
        augment: comma-separated names of augmentations, or ``none``.
        mixing: of Mixup and CutMix, if any.
        workers: number of threads, each of which prefetches a batch; does not affect the batches.
        parts: number of parts into which a batch is split.
        share: (rank, size): load only the samples of one of ``size`` processes, which share each part.

    Raises:
        ConfigError: an augmentation does not support the data.
    """

    split: Split
    batch_size: int
    _: KW_ONLY
    static: bool
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    seed: int = 0
    epoch: int = 0
    start: int = 0
    shuffle: bool = False
    drop_last: bool = False
    augment: str | None = "none"
    mixing: Mixing | None = None
    workers: int = 0
    parts: int = 1
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        every = chain(self.augment, self.static)
        self.early = [augmentation for augmentation in every if not augmentation.late]
        self.late = [augmentation for augmentation in every if augmentation.late]
        n = len(self.split)
        self.order = random.order(self.seed, self.epoch, self.split.ids) if self.shuffle else np.arange(n)
        whole, rest = divmod(n, self.batch_size)
        self.count = whole if self.drop_last and whole else whole + (rest > 0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        indices = range(self.start, self.count)
        if self.workers < 1:
            yield from map(self.batch, indices)
            return
        with contextlib.closing(parallel.in_threads(self._samples, indices, self.workers)) as prefetched:
            for index, samples in zip(indices, prefetched, strict=True):
                yield self._finished(index, samples)

    def whole(self) -> "Batches":
        """The same batches with the samples of all processes."""
        return dataclasses.replace(self, share=(0, 1))

    def batch(self, index: int) -> Batch:
        """The batch with the given index, independent of earlier calls."""
        return self._finished(index, self._samples(index))

    def _chosen(self, index: int) -> tuple[np.ndarray, np.ndarray, Draw | None]:
        """Rows of the samples of a batch, positions of this process's samples in it, and how it is mixed.

        If it is mixed, the rows contain those of the partners, which may belong to other processes, too.
        """
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        own = np.concatenate(shares(len(rows), self.parts, *self.share))
        height, width = self.split.x.shape[-2:]
        draw = self.mixing.draw(self.seed, self.epoch, index, (height, width)) if self.mixing else None
        if draw is None:
            return rows[own], np.arange(len(own)), None
        needed = np.union1d(own, len(rows) - 1 - own)
        return rows[needed], np.searchsorted(needed, own), draw

    def _samples(self, index: int) -> np.ndarray:
        """The augmented samples of a batch (B, ...), in their stored data type; runs in prefetching threads."""
        rows, *_ = self._chosen(index)
        ids = self.split.ids[rows]
        x = np.asarray(self.split.x[rows])
        for augmentation in self.early:
            x = augmentation(x, self._uniforms(ids, augmentation))
        if self.static:
            x = x.astype(np.float32)
            x /= 255
            if self.mean is not None and self.std is not None:
                x -= _column(self.mean)
                x /= _column(self.std)
        for augmentation in self.late:
            x = augmentation(x, self._uniforms(ids, augmentation))
        return np.ascontiguousarray(x)

    def _finished(self, index: int, samples: np.ndarray) -> Batch:
        """Convert to float32 and time-first layout in one copy by torch, which is 30 times as fast as numpy for float16."""
        rows, own, draw = self._chosen(index)
        x = torch.from_numpy(samples)
        y = torch.from_numpy(self.split.y[rows])
        if not self.static:
            x = x.transpose(0, 1)
            x = torch.empty(x.shape).copy_(x)
        if self.mixing and draw:
            # The needed positions are symmetric in the batch, so the partner of the first is the last.
            x, y = self.mixing(draw, x, y, torch.from_numpy(own), torch.from_numpy(len(rows) - 1 - own))
        numbers = torch.from_numpy(random.numbers(self.seed, self.epoch, self.split.ids[rows[own]]))
        return Batch(x, y, index, min(self.batch_size, len(self.order) - index * self.batch_size), numbers)

    def _uniforms(self, ids: np.ndarray, augmentation: Augmentation) -> np.ndarray:
        return random.uniforms(self.seed, self.epoch, ids, augmentation.n, f"augment/{augmentation.name}")


def batches(bundle: DataBundle, split: Split | str, batch_size: int, **options: Any) -> Batches:
    """Mini-batches of one epoch: ``for batch in lsg.batches(data, data.train, 32): network(batch.x)``.

    Args:
        bundle: the data of ``split``, whose normalisation is applied.
        split: a split of the data, or its name: ``train``, ``val`` or ``test``.
        options: of :class:`Batches`: ``shuffle``, ``seed``, ``epoch``, ``augment``, ``drop_last``, ``workers``, ...

    Returns:
        An iterable of batches with ``x``, (T, B, 2, S, S) or (B, C, S, S), and ``y``, labels (B,); ``len()`` is their number.

    Raises:
        ConfigError: no such split or option, or a batch size below 1.
    """
    if not isinstance(split, Split):
        split = bundle.named(split)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"batch_size: found {batch_size!r}, expected an integer of at least 1")
    known = [one.name for one in dataclasses.fields(Batches) if one.kw_only and one.name not in ("mean", "std", "static")]
    refuse(registry.unknown("option", name, known) for name in sorted(options.keys() - known))
    return Batches(split, batch_size, mean=bundle.mean, std=bundle.std, static=bundle.static, **options)


def _column(values: Sequence[float]) -> np.ndarray:
    """(C, 1, 1), to broadcast over (B, C, H, W)."""
    return np.array(list(values), dtype=np.float32).reshape(-1, 1, 1)
