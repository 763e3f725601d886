"""Spikes saved for backward in less memory: in bits, by the kernels for CPUs, or as bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lsgcli import registry
from lsgcli.neurons.kernels.base import is_tracing
from lsgcli.neurons.kernels.cpu.job import STORAGE


def in_bits(x: Tensor) -> bool:
    """Whether the kernels for CPUs can pack x; not while the program is traced."""
    if is_tracing(x) or x.dtype not in STORAGE or x.numel() == 0:
        return False
    return bool(registry.get("backend", "fused").available(x.device))


class Compact(NamedTuple):
    """Saved spikes, and a function that restores them in their memory order, (n,)."""

    words: Tensor
    restore: Callable[[], Tensor]


class Held:
    """A tensor of spikes, and its one packed copy. Does not keep the tensor alive.

    Args:
        x: every element is one of 0, 1/levels, 2/levels, ... up to 255/levels.
        levels: see x.
        outer: of the context around this one, if any.
    """

    def __init__(self, x: Tensor, levels: int, outer: "Held | None" = None):
        self.address, self.n, self.levels, self.outer = x.data_ptr(), x.numel(), levels, outer
        self._packed: Any = None
        self._compact: Compact | None = None
        self._other = False  # whether an element is something else, such as NaN in a training that diverges

    def holding(self, x: Tensor) -> "Held | None":
        """This, or one of an outer context, if x is a view of the whole of its tensor."""
        own: Held | None = self
        while own is not None and (x.data_ptr() != own.address or x.numel() != own.n):
            own = own.outer
        return own

    def packed(self, x: Tensor) -> Any:
        """The tensor x in bits, see :class:`lsgcli.neurons.kernels.cpu.packing.Packed`; None if an element is no number of spikes."""
        if self._packed is None and not self._other:
            from lsgcli.neurons.kernels.cpu.packing import packed

            try:
                self._packed = packed(x, self.levels)
            except ValueError:
                self._other = True
        return self._packed

    def compact(self, x: Tensor) -> Compact:
        """The tensor x in bits or bytes; restored exactly."""
        if self._compact is None:
            if in_bits(x):
                bits = self.packed(x)
                own = x.detach().as_strided((self.n,), (1,))
                self._compact = Compact(own, lambda: own) if bits is None else Compact(bits.planes, bits.restore)
            else:
                self._compact = _in_bytes(x, self.levels)
        return self._compact


def _in_bytes(x: Tensor, levels: int) -> Compact:
    counts, dtype = (x if levels == 1 else (x * levels).round_()).to(torch.uint8), x.dtype

    def restore() -> Tensor:
        own = counts.as_strided((counts.numel(),), (1,)).to(dtype)
        return own if levels == 1 else own.div_(levels)

    return Compact(counts, restore)


HELD: ContextVar[Held | None] = ContextVar("HELD", default=None)


def held(x: Tensor) -> Held | None:
    """The spikes that x is known to consist of, in a context of :func:`saved_compactly`."""
    own = HELD.get()
    return None if own is None else own.holding(x)


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
    spikes = held(x) or Held(x, levels, HELD.get())

    def pack(tensor: Tensor) -> Any:
        own = spikes.holding(tensor)
        if own is None:
            return tensor.detach()  # otherwise, an output that its own node saves would never be freed
        return own.compact(tensor), tensor.shape, tensor.stride()

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        compact, shape, stride = kept
        return compact.restore().as_strided(shape, stride)

    token = HELD.set(spikes)
    try:
        with saved_tensors_hooks(pack, unpack) if saves else nullcontext():
            yield
    finally:
        HELD.reset(token)
