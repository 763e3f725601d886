"""Arguments of a worker: the memory layout of its tensors, the partition of neurons among threads, sizes and addresses.

Layout and partition depend on shapes only, not on the number of threads, because sums are computed per chunk. Imports no numba.
"""

import math
from array import array
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsgcli.neurons.kernels.cpu import threads

PERIOD = 1024  # elements per loop: the vectors per channel, repeated to this length, stay in the L1 cache
BLOCK = 16384  # elements per timestep of a block: long runs are read faster than many short ones
SCRATCH = 1 << 17  # elements of a block over all timesteps: its membrane potentials stay in the L2 cache
SHARES = 16  # minimum number of blocks, to be shared between threads
CHUNK = 1 << 16  # elements between two additions of float32 sums to float64

STORAGE = {torch.float32: np.float32, torch.bfloat16: np.uint16}  # types of the kernels
SPIKES = {**STORAGE, torch.uint8: np.uint8}  # types of spikes, and of a residual of spikes

# Statistics of observed neurons: sums per timestep, and a histogram of u / v_th, whose threshold is 1 and whose interval by the
# paper is within [-0.42, 2.42]; PLACES includes underflow and overflow.
# A name here, in a loop of ``watching`` and in ``LayerSums`` (``count``, or of the gradient ``add_membrane_gradient``) is one sum. The
# loops add in units of u, ``LayerSums`` has u / v_th: the number is the power of v_th by which the loops' sum is divided.
SUMS = {"spikes": 0, "inside": 0, "u": 1, "u_squared": 2, "u_cubed": 3, "h": 0, "h_squared": 0}
SUMS |= {"current": 0, "current_squared": 0, "product": 0, "du": 0}
STEP = np.dtype([(name, np.float64) for name in SUMS])
LOWEST, HIGHEST, BINS = -4.0, 6.0, 100
PLACES = BINS + 2
FIRED, SILENT = np.uint8(1), np.uint8(2)  # marks of a neuron: fired at any step; silent at any step

ADDRESSES = (
    *("counter", "z", "residual", "before", "out", "after", "scale", "shift", "beta", "half", "inverse", "mean", "slope"),
    *("offset", "grad", "d_z", "d_residual", "moments", "d_beta", "d_threshold", "sums", "histogram", "marks"),
)
OPERANDS = slice(1, 6)  # of the forward pass: z to after
# In elements, except the counts of rows, pieces, blocks and chunks; z_step is 0 if z is the same at all steps. A loop processes a
# ``period``: whole pixels, and whole pooling windows of a row. A block is a ``run`` of elements in each of ``rows`` rows (fewer in
# the last block); a row of ``row`` elements has ``pieces`` runs. A chunk is ``per_chunk`` blocks.
SIZES = (
    *("T", "channels", "side", "period", "run", "row", "rows", "pieces", "size", "step", "z_step", "out_step", "width_step"),
    *("blocks", "chunks", "per_chunk"),
)
FIELDS = (*ADDRESSES, *SIZES)
JOB = np.dtype([(name, np.int64) for name in FIELDS] + [("v_th", np.float32), ("area", np.float32)], align=True)
NUMBERS = {name: number for number, name in enumerate(FIELDS)}


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

    def like(self, shape: torch.Size, x: Tensor, dtype: torch.dtype | None = None, pool: int = 1) -> Tensor:
        """An empty tensor for ``shape``, whose H and W are divided by ``pool``, in this order; of x's type unless given."""
        return x.new_empty([shape[axis] // (pool if axis > 2 else 1) for axis in self.order], dtype=dtype)

    def back(self, x: Tensor) -> Tensor:
        """A tensor in this order, permuted to the original order without a copy."""
        return x.permute([self.order.index(axis) for axis in range(len(self.order))])


def image_layout(x: Tensor, *parameters: Tensor) -> Layout | None:
    """The layout of (T, B, C, H, W), if parameters vary along no axis except the channels; otherwise None."""
    return Layout((0, 1, 3, 4, 2), x.shape[2]) if _axes(x, parameters) <= {2} else None


def sequence_layout(x: Tensor, *parameters: Tensor) -> Layout | None:
    """The layout whose channels are the axis along which parameters vary; x's own order if none varies; None for two axes."""
    axes = _axes(x, parameters)
    if len(axes) > 1:
        return None
    others = [axis for axis in range(1, x.dim()) if axis not in axes]
    if axes:
        (channel,) = axes
        return Layout((0, *others, channel), x.shape[channel])
    others.sort(key=lambda axis: -x.stride()[axis])
    return Layout((0, *others), 1)


def _axes(x: Tensor, parameters: tuple[Tensor, ...]) -> set[int]:
    """Axes of one step of x along which parameters vary; each broadcasts against one step or against the whole of x."""
    return {
        axis
        for parameter in parameters
        for axis, size in enumerate(parameter.shape, start=x.dim() - parameter.dim())
        if size > 1 and axis > 0
    }


class Job:
    """Builds the record of a job, and keeps alive the memory that its addresses point to.

    Args:
        laid: z in the memory order of the kernels, (T or 1, ..., C).
        T: timesteps.
        layout: of z.
        v_th: threshold.
        pool: size of the pooling window.
        as_bytes: whether spikes are bytes; pooling then returns sums.

    Attributes:
        fields: the record as int64, which is set faster than the fields of a numpy record, and the counter.
    """

    def __init__(self, laid: Tensor, T: int, layout: Layout, v_th: float, pool: int = 1, as_bytes: bool = False):
        self.channels, self.kept = layout.channels, dict[str, Any]()
        self.fields = array("q", _record(laid.shape, T, layout.channels, v_th, pool, as_bytes))
        self.point(z=laid)

    def over_all(self) -> "Job":
        """This job, with all steps as one run of memory, for sums over all steps."""
        self["per_chunk"] = max(1, CHUNK // self["period"])
        self["chunks"] = math.ceil(self["size"] / (self["per_chunk"] * self["period"]))
        return self

    def point(self, **memory: Tensor | NDArray[Any] | None) -> None:
        """Set addresses; None becomes 0, which disables the operand."""
        for name, x in memory.items():
            self.kept[name] = x
            self[name] = 0 if x is None else x.data_ptr() if isinstance(x, Tensor) else x.ctypes.data

    def vectors(self, **tables: NDArray[Any]) -> None:
        """Set vectors per channel, or tables of them, (n, C or 1): float32, each repeated to the length of a period."""
        rows = {name: table.reshape(-1, 1, table.shape[-1]) for name, table in tables.items()}
        period, first = self["period"], 0
        room = np.empty((sum(map(len, rows.values())), period // self.channels, self.channels), np.float32)
        address = room.ctypes.data
        for name, table in rows.items():
            room[first : first + len(table)] = table
            self[name] = address + 4 * period * first
            first += len(table)
        self.kept |= dict.fromkeys(tables, room)

    def widths(self, table: NDArray[Any], **others: NDArray[Any]) -> None:
        """Set the surrogate's width, (T or 1, C or 1), and other vectors."""
        self.vectors(half=table / 2, inverse=1 / table, **others)
        self["width_step"] = self["period"] if len(table) > 1 else 0

    def zeros(self, name: str, *shape: int, dtype: type = np.float64) -> NDArray[Any]:
        """Set the address of zeroed memory, (chunks, *shape), for results of each chunk."""
        room: NDArray[Any] = np.zeros((self["chunks"], *shape), dtype)
        self.point(**{name: room})
        return room

    def run(self, worker: int) -> None:
        """Run the worker at an address."""
        threads.run(worker, self.fields, self["chunks"])

    def __getitem__(self, name: str) -> int:
        return self.fields[NUMBERS[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self.fields[NUMBERS[name]] = value


@lru_cache(1024)
def _record(shape: torch.Size, T: int, channels: int, v_th: float, side: int, as_bytes: bool) -> bytes:
    """The record without addresses, and a counter; arguments as for :class:`Job`, with the shape of z in memory order.

    The elements of a step, in rows, are divided into blocks: pieces of ``side`` rows, or multiples of ``side`` whole rows.
    """
    step, unit = shape[1:].numel(), side * channels
    row = shape[3] * channels if side > 1 else step
    period = max(1, min(PERIOD, row) // unit) * unit
    target = max(period, min(BLOCK, SCRATCH // T, step // SHARES) // period * period)
    run = min(row, max(period, target // side // period * period))
    pieces = math.ceil(row / run)
    rows = min(step // row, max(1, target // (row * side)) * side) if pieces == 1 else side
    blocks = math.ceil(step // row / rows) * pieces
    per_chunk = max(1, CHUNK // (T * run * rows))
    z_step, out_step, width_step = step if shape[0] > 1 else 0, step // side**2, 0
    sizes = (T, channels, side, period, run, row, rows, pieces, shape.numel(), step, z_step, out_step, width_step)
    parts = (blocks, math.ceil(blocks / per_chunk), per_chunk)
    fields = (*[0] * len(ADDRESSES), *sizes, *parts, v_th, 1 if as_bytes else side**2)
    return np.array([fields], JOB).tobytes() + bytes(8)
