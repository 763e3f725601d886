"""Memory layout of one timestep as rows x columns x inner, on which the kernels work.

A column is a set of neurons that share decay, width and normalisation. A tile is a set of rows and columns, so sums per column, such as
the gradient of the decay, are sums over rows. The offset of element (row, column) in a step is

    (row // inner) * columns * inner + column * inner + row % inner

Channels-last images have inner = 1 and one column per channel; contiguous images with a decay per channel have inner = H * W; if all
neurons share their parameters, there is one column.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepLayout:
    """The layout of one timestep.

    Attributes:
        order: dimensions of a step in memory order, slowest first, without the time axis.
        sizes: sizes of the dimensions, in that order.
        first: first dimension, in that order, of the columns.
        last: one past the last dimension of the columns.
        pool: size of the pooling window; if above 1, the sizes are (B, H, W, C).
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]
    first: int
    last: int
    pool: int = 1

    @property
    def columns(self) -> int:
        """Number of columns."""
        return prod(self.sizes[self.first : self.last])

    @property
    def inner(self) -> int:
        """Distance in memory between adjacent columns."""
        return prod(self.sizes[self.last :])

    @property
    def rows(self) -> int:
        """Neurons per column."""
        return prod(self.sizes) // self.columns

    @property
    def image(self) -> tuple[int, int]:
        """Height and width; (1, 1) without pooling."""
        return (self.sizes[1], self.sizes[2]) if self.pool > 1 else (1, 1)

    @property
    def pooled_sizes(self) -> tuple[int, ...]:
        """The sizes after pooling, rounded down."""
        if self.pool == 1:
            return self.sizes
        batch, height, width, channels = self.sizes
        return (batch, height // self.pool, width // self.pool, channels)

    def stored(self, x: Tensor) -> Tensor:
        """x (T, ...) permuted to memory order, (T, *sizes), with each step contiguous; a copy if necessary.

        The stride between steps is arbitrary; it is 0 for an image expanded over time.
        """
        x = x.permute(0, *(d + 1 for d in self.order))
        return x if x[0].is_contiguous() else x.contiguous()

    def empty(self, T: int, like: Tensor, dtype: torch.dtype, pooled: bool = False, zero: bool = False) -> Tensor:
        """A new tensor (T, *sizes) on the device of ``like``."""
        make = torch.zeros if zero else torch.empty
        return make((T, *(self.pooled_sizes if pooled else self.sizes)), dtype=dtype, device=like.device)

    def logical(self, x: Tensor) -> Tensor:
        """(T, *sizes) with its dimensions in the caller's order."""
        return x.permute(0, *(d + 1 for d in self._back()))

    def per_column(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, ...) as (N, columns); x broadcasts against (N, step) and has size 1 outside the dimensions of the columns."""
        if self.last - self.first <= 1 or x.numel() == len(x):  # the same without a dozen views, which keep the host busy
            return x.reshape(len(x), -1).expand(-1, self.columns).to(dtype).contiguous()
        places = [slice(None) if self.first <= i < self.last else slice(1) for i in range(len(self.sizes))]
        full = x.expand(len(x), *(self.sizes[i] for i in self._back())).permute(0, *(d + 1 for d in self.order))
        return full[(slice(None), *places)].reshape(len(x), self.columns).to(dtype).contiguous()

    def from_columns(self, x: Tensor, shape: torch.Size) -> Tensor:
        """(columns,) summed to ``shape``, which broadcasts against a step: the adjoint of :meth:`per_column`."""
        places = [size if self.first <= i < self.last else 1 for i, size in enumerate(self.sizes)]
        return x.reshape(places).permute(self._back()).sum_to_size(shape)

    def _back(self) -> tuple[int, ...]:
        return tuple(self.order.index(d) for d in range(len(self.order)))


def of_neurons(current: Tensor, *vectors: Tensor) -> StepLayout:
    """The layout of a current (T, ...), whose columns are the dimensions along which the vectors vary.

    ``vectors`` broadcast against one timestep.
    """
    step = current[0]
    strides = step.stride()
    order = tuple(sorted(range(step.dim()), key=lambda d: (-strides[d], d)))
    if not step.permute(order).is_contiguous():
        order = tuple(range(step.dim()))
    sizes = tuple(step.shape[d] for d in order)
    varying = [
        i for i, d in enumerate(order) if any(v.dim() >= step.dim() - d and v.shape[d - step.dim()] > 1 for v in vectors)
    ]
    first, last = (varying[0], varying[-1] + 1) if varying else (len(sizes), len(sizes))
    return StepLayout(order, sizes, first, last)


def of_images(z: Tensor, pool: int) -> StepLayout:
    """The layout of channels-last images (T, B, C, H, W), with the channels as columns."""
    _, batch, channels, height, width = z.shape
    return StepLayout((0, 2, 3, 1), (batch, height, width, channels), 3, 4, pool)
