"""Arguments of a worker: a record of sizes, addresses and numbers, shared between Python and the compiled code."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lsgcli.neurons.kernels.cpu import threads
from lsgcli.neurons.kernels.cpu.layout import CHUNK, Layout, cut

ADDRESSES = (
    *("counter", "z", "residual", "out", "scale", "shift", "beta", "half", "inverse", "mean", "slope", "offset"),
    *("grad", "d_z", "d_residual", "moments", "d_beta"),
    *("sums", "histogram", "marks"),
)
# In elements, except the counts of rows, pieces, blocks and chunks; z_step is 0 if z is the same at all steps.
SIZES = (
    *("T", "channels", "side", "period", "run", "row", "rows", "pieces", "size", "step", "z_step", "out_step", "width_step"),
    *("blocks", "chunks", "per_chunk"),
)
JOB = np.dtype([(name, np.int64) for name in (*ADDRESSES, *SIZES)] + [("v_th", np.float32), ("area", np.float32)], align=True)


class Job:
    """Builds a record and keeps the memory alive that its addresses point to.

    Args:
        laid: z in the memory order of the kernels, (T or 1, ..., C).
        T: timesteps.
        layout: of z.
        v_th: threshold.
        pool: size of the pooling window.
    """

    def __init__(self, laid: Tensor, T: int, layout: Layout, v_th: float, pool: int = 1):
        self.channels, self.record, self.kept = layout.channels, np.zeros(1, JOB), dict[str, Any]()
        step = laid[0].numel()
        row = laid.shape[3] * layout.channels if pool > 1 else step
        blocks = cut(T, step, row, layout.channels, pool)
        self.period, self.chunks = blocks.period, blocks.chunks
        self._size(**blocks._asdict(), T=T, channels=layout.channels, side=pool, size=laid.numel())
        self._size(step=step, z_step=step if len(laid) > 1 else 0, out_step=step // pool**2, v_th=v_th, area=pool**2)
        self.point(z=laid)

    def over_all(self) -> "Job":
        """This job, with all steps as one run of memory, for sums over all steps."""
        per_chunk = max(1, CHUNK // self.period)
        self.chunks = math.ceil(int(self.record["size"][0]) / (per_chunk * self.period))
        self._size(per_chunk=per_chunk, chunks=self.chunks)
        return self

    def point(self, **memory: Tensor | NDArray[Any] | None) -> None:
        """Set addresses; None becomes 0, which disables the operand."""
        for name, x in memory.items():
            self.kept[name] = x
            self.record[name] = 0 if x is None else x.data_ptr() if isinstance(x, Tensor) else x.ctypes.data

    def vectors(self, **vectors: NDArray[Any]) -> None:
        """Set vectors per channel: float32, repeated to the length of a period."""
        self.point(**{name: self._repeated(x[None]) for name, x in vectors.items()})

    def widths(self, table: NDArray[Any]) -> None:
        """Set the surrogate's width, (T or 1, C or 1)."""
        self.point(half=self._repeated(table / 2), inverse=self._repeated(1 / table))
        self._size(width_step=self.period if len(table) > 1 else 0)

    def sums(self, name: str, n: int) -> NDArray[np.float64]:
        """Zeroed memory for n sums per chunk and channel: (chunks, n, C)."""
        room = np.zeros((self.chunks, n, self.channels))
        self.point(**{name: room})
        return room

    def run(self, worker: int) -> None:
        """Run the worker at an address."""
        self.point(counter=np.zeros(1, np.int64))
        threads.run(worker, self.record.ctypes.data, self.chunks)

    def _repeated(self, table: NDArray[Any]) -> NDArray[np.float32]:
        """Each row of (n, C or 1) repeated to the length of a period, concatenated."""
        n, size = table.shape
        repeated = np.empty((n, self.period // size, size), np.float32)
        repeated[:] = table[:, None]
        return repeated

    def _size(self, **sizes: float) -> None:
        for name, value in sizes.items():
            self.record[name] = value
