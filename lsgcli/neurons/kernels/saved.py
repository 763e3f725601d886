"""Spikes saved for backward in less memory: in bits, by the kernels for CPUs, or as bytes."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lsgcli import registry
from lsgcli.neurons.kernels.base import Compact, is_tracing
from lsgcli.neurons.kernels.cpu.job import STORAGE


def in_bits(x: Tensor) -> bool:
    """Whether the kernels for CPUs can pack x; not while the program is traced."""
    if is_tracing(x) or x.dtype not in STORAGE or x.numel() == 0:
        return False
    return bool(registry.get("backend", "fused").available(x.device))


class Held:
    """A tensor of spikes, and its one packed copy. Does not keep the tensor alive.

    Args:
        x: every element is one of 0, 1/levels, 2/levels, ... up to 255/levels.
        levels: see x.
    """

    def __init__(self, x: Tensor, levels: int):
        self.address, self.n, self.levels = x.data_ptr(), x.numel(), levels
        self._packed: Any = None
        self._compact: Compact | None = None

    def holds(self, x: Tensor) -> bool:
        """Whether x is a view of the whole of the tensor."""
        return x.data_ptr() == self.address and x.numel() == self.n

    def packed(self, x: Tensor) -> Any:
        """The tensor x in bits, see :class:`lsgcli.neurons.kernels.cpu.packing.Packed`."""
        if self._packed is None:
            from lsgcli.neurons.kernels.cpu.packing import packed

            self._packed = packed(x, self.levels)
        return self._packed

    def compact(self, x: Tensor) -> Compact:
        """The tensor x in bits or bytes; restored exactly."""
        if self._compact is None:
            if in_bits(x):
                bits = self.packed(x)
                self._compact = Compact(bits.planes, bits.restore)
            else:
                self._compact = _in_bytes(x, self.levels)
        return self._compact


def _in_bytes(x: Tensor, levels: int) -> Compact:
    counts, dtype = (x if levels == 1 else (x * levels).round_()).to(torch.uint8), x.dtype

    def restore() -> Tensor:
        x = counts.to(dtype)
        return x if levels == 1 else x.div_(levels)

    return Compact(counts, restore)


HELD: ContextVar[Held | None] = ContextVar("HELD", default=None)


def held(x: Tensor) -> Held | None:
    """The spikes that x is known to consist of, in a context of :func:`saved_compactly`."""
    own = HELD.get()
    return own if own is not None and own.holds(x) else None


@contextmanager
def saved_compactly(x: Tensor, levels: int, saves: bool = True) -> Iterator[None]:
    """Context in which x is saved for backward in at most one byte per element. All views of the whole of x share one copy.

    Args:
        x: as for :class:`Held`.
        levels: as for :class:`Held`.
        saves: whether anything is saved; otherwise x is only known to consist of spikes.
    """
    if x.untyped_storage().nbytes() != x.numel() * x.itemsize:  # not dense
        yield
        return
    # Not x itself: autograd keeps pack alive until the backward pass.
    own = Held(x, levels)

    def pack(kept: Tensor) -> Any:
        if not own.holds(kept):
            return kept.detach()  # otherwise, an output that its own node saves would never be freed
        return own.compact(kept), kept.shape, kept.stride()

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        compact, shape, stride = kept
        return compact.restore().as_strided(shape, stride)

    token = HELD.set(own)
    try:
        with saved_tensors_hooks(pack, unpack) if saves else nullcontext():
            yield
    finally:
        HELD.reset(token)
