"""How a tensor lies in memory for the kernels, and how its neurons are cut into blocks and chunks.

All of it depends on shapes only, never on the number of threads, since sums are made per chunk.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

PERIOD = 1024  # elements at a time: the vectors per channel, repeated to this length, stay in the first-level cache
BLOCK = 16384  # elements of one timestep of a block: memory gives long runs faster than many short ones
SCRATCH = 1 << 17  # elements of all timesteps of a block: its membrane potentials stay in the second-level cache
SHARES = 16  # blocks that there should be at least, for threads to share
CHUNK = 1 << 16  # elements between two folds of float32 sums into float64


class Layout(NamedTuple):
    """An order of axes, time first and channels last, in which a tensor is contiguous, and back.

    Attributes:
        order: for ``Tensor.permute``.
        channels: C, the length of the vectors per channel.
    """

    order: tuple[int, ...]
    channels: int

    def lay(self, x: Tensor) -> Tensor:
        """x in that order; copied where it lies otherwise."""
        return x.permute(self.order).contiguous()

    def like(self, shape: torch.Size, x: Tensor) -> Tensor:
        """New memory for a tensor of ``shape``, of x's type, laid out in that order."""
        return x.new_empty([shape[axis] for axis in self.order])

    def back(self, x: Tensor) -> Tensor:
        """A laid-out tensor with its axes in their own order; no copy."""
        return x.permute([self.order.index(axis) for axis in range(len(self.order))])


class Blocks(NamedTuple):
    """The cut.

    Attributes:
        period: elements that a loop takes at a time; whole pixels, and whole pooling windows of a row.
        run: elements of a block in one row.
        row: elements of a row.
        pieces: runs of a row.
        rows: of a block; as many as there are, in the last one.
        blocks: of one timestep.
        chunks: of blocks.
        per_chunk: blocks.
    """

    period: int
    run: int
    row: int
    pieces: int
    rows: int
    blocks: int
    chunks: int
    per_chunk: int


def channel_axes(parameter: Tensor, current: Tensor) -> set[int]:
    """Axes of one step along which a parameter, which broadcasts against it or against the whole current, varies."""
    first = current.dim() - parameter.dim()
    return {first + axis for axis, size in enumerate(parameter.shape) if size > 1 and first + axis > 0}


def layout(current: Tensor, axes: set[int]) -> Layout | None:
    """Channels are the one axis along which parameters vary; without any, the current's own order; None where there are two."""
    if len(axes) > 1:
        return None
    others = [axis for axis in range(1, current.dim()) if axis not in axes]
    if axes:
        (channel,) = axes
        return Layout((0, *others, channel), current.shape[channel])
    others.sort(key=lambda axis: -current.stride()[axis])
    return Layout((0, *others), 1)


def cut(T: int, step: int, row: int, channels: int, side: int = 1) -> Blocks:
    """Cut ``step`` elements, in rows of ``row``, into blocks that are pieces of a row or some whole rows, ``side`` of them or more."""
    unit = side * channels
    period = max(1, min(PERIOD, row) // unit) * unit
    target = max(period, min(BLOCK, SCRATCH // T, step // SHARES) // period * period)
    run = min(row, max(period, target // side // period * period))
    pieces = math.ceil(row / run)
    rows = min(step // row, max(1, target // (row * side)) * side) if pieces == 1 else side
    blocks = math.ceil(step // row / rows) * pieces
    per_chunk = max(1, CHUNK // (T * run * rows))
    return Blocks(period, run, row, pieces, rows, blocks, math.ceil(blocks / per_chunk), per_chunk)
