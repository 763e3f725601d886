"""Spikes saved for backward in less memory: in bits, by the kernels for CPUs, or as bytes."""

from contextlib import AbstractContextManager, nullcontext
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


def saved_compactly(x: Tensor, levels: int) -> AbstractContextManager[Any]:
    """Context in which x is saved for backward in at most one byte per element. All views of the whole of x share one copy.

    Args:
        x: every element is one of 0, 1/levels, 2/levels, ... up to 255/levels; restored exactly.
    """
    if x.untyped_storage().nbytes() != x.numel() * x.itemsize:  # not dense
        return nullcontext()
    address, n = x.data_ptr(), x.numel()  # not x itself: autograd keeps pack alive until the backward pass
    shared: list[Compact] = []

    def pack(kept: Tensor) -> Any:
        if kept.data_ptr() != address or kept.numel() != n:
            return kept.detach()  # otherwise, an output that its own node saves would never be freed
        if not shared:
            shared.append(_compact(kept, levels))
        return shared[0], kept.shape, kept.stride()

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        compact, shape, stride = kept
        return compact.restore().as_strided(shape, stride)

    return saved_tensors_hooks(pack, unpack)


def _compact(x: Tensor, levels: int) -> Compact:
    if in_bits(x):
        from lsgcli.neurons.kernels.cpu.packing import packed

        return packed(x, levels)
    counts, dtype = (x if levels == 1 else (x * levels).round_()).to(torch.uint8), x.dtype

    def restore() -> Tensor:
        x = counts.to(dtype)
        return x if levels == 1 else x.div_(levels)

    return Compact(counts, restore)
