"""Memory layout of tensors for the kernels, and the partition of neurons into blocks and chunks.

Both depend on shapes only, not on the number of threads, because sums are computed per chunk.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

PERIOD = 1024  # elements per loop: the vectors per channel, repeated to this length, stay in the L1 cache
BLOCK = 16384  # elements per timestep of a block: long runs are read faster than many short ones
SCRATCH = 1 << 17  # elements of a block over all timesteps: its membrane potentials stay in the L2 cache
SHARES = 16  # minimum number of blocks, to be shared between threads
CHUNK = 1 << 16  # elements between two additions of float32 sums to float64


class Layout(NamedTuple):
    """An order of axes, time first and channels last, in which a tensor is contiguous.

    Attributes:
        order: for ``Tensor.permute``.
        channels: C, the length of per-channel vectors.
    """

    order: tuple[int, ...]
    channels: int

    def lay(self, x: Tensor) -> Tensor:
        """x in this order; copied if it is not contiguous in it."""
        return x.permute(self.order).contiguous()

    def like(self, shape: torch.Size, x: Tensor) -> Tensor:
        """An empty tensor for ``shape`` in this order, of x's type."""
        return x.new_empty([shape[axis] for axis in self.order])

    def back(self, x: Tensor) -> Tensor:
        """A tensor in this order, permuted to the original order without a copy."""
        return x.permute([self.order.index(axis) for axis in range(len(self.order))])


class Blocks(NamedTuple):
    """Partition of one timestep into blocks and chunks.

    Attributes:
        period: elements per loop; whole pixels, and whole pooling windows of a row.
        run: elements of a block in one row.
        row: elements per row.
        pieces: runs per row.
        rows: rows per block; the last block may have fewer.
        blocks: number of blocks in a timestep.
        chunks: number of chunks of blocks.
        per_chunk: blocks per chunk.
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
    """Axes of one step along which a parameter varies; it broadcasts against one step or against the whole current."""
    first = current.dim() - parameter.dim()
    return {first + axis for axis, size in enumerate(parameter.shape) if size > 1 and first + axis > 0}


def layout(current: Tensor, axes: set[int]) -> Layout | None:
    """The layout whose channels are the axis along which parameters vary; the current's own order if none varies; None for two."""
    if len(axes) > 1:
        return None
    others = [axis for axis in range(1, current.dim()) if axis not in axes]
    if axes:
        (channel,) = axes
        return Layout((0, *others, channel), current.shape[channel])
    others.sort(key=lambda axis: -current.stride()[axis])
    return Layout((0, *others), 1)


def cut(T: int, step: int, row: int, channels: int, side: int = 1) -> Blocks:
    """Partition ``step`` elements, in rows of ``row``, into blocks: pieces of ``side`` rows, or multiples of ``side`` whole rows."""
    unit = side * channels
    period = max(1, min(PERIOD, row) // unit) * unit
    target = max(period, min(BLOCK, SCRATCH // T, step // SHARES) // period * period)
    run = min(row, max(period, target // side // period * period))
    pieces = math.ceil(row / run)
    rows = min(step // row, max(1, target // (row * side)) * side) if pieces == 1 else side
    blocks = math.ceil(step // row / rows) * pieces
    per_chunk = max(1, CHUNK // (T * run * rows))
    return Blocks(period, run, row, pieces, rows, blocks, math.ceil(blocks / per_chunk), per_chunk)
