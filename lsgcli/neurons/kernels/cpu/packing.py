"""Packs numbers of spikes into 1, 2, 4 or 8 bits each, and unpacks them.

Of m bytes, byte i holds the elements i, m + i, 2 m + i, ... in memory, the first in its lowest bits, so that all loops are over contiguous
elements. An element x stands for the whole number x * levels.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numba import carray
from torch import Tensor

from lsgcli.neurons.kernels.base import Compact
from lsgcli.neurons.kernels.cpu import build, threads
from lsgcli.neurons.kernels.cpu.intrinsics import fetch_and_add, get, loop, pointer, put, shifted_left, shifted_right
from lsgcli.neurons.kernels.cpu.job import CHUNK, JOB, STORAGE
from lsgcli.neurons.kernels.cpu.workers import Worker

# mypy: disable-error-code="no-untyped-def"
HALF = np.float32(0.5)


def packed(x: Tensor, levels: int) -> Compact:
    """Numbers of spikes in as few bits as the largest needs; restored as (n,) in memory order.

    Args:
        x: a dense float32 or bfloat16 tensor of whole numbers / levels, up to 255 / levels.
    """
    bits = _width(levels)
    words, largest = _pack(x, bits, levels)
    if (needed := _width(largest)) > bits:
        bits = needed
        words, _ = _pack(x, bits, levels)
    n, dtype = x.numel(), x.dtype

    def restore() -> Tensor:
        memory = torch.empty(n, dtype=dtype)
        _run(unpack, memory, words, bits, levels)
        return memory

    return Compact(words, restore)


def _width(largest: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if largest < 1 << bits)


def _pack(x: Tensor, bits: int, levels: int) -> tuple[Tensor, int]:
    """The bytes, and the union of the bits of all elements; if it needs more bits, the bytes are invalid."""
    words = torch.empty(math.ceil(x.numel() * bits / 8), dtype=torch.uint8)
    return words, _run(pack, x, words, bits, levels)


def _run(make: Callable[[type], Worker], memory: Tensor, words: Tensor, bits: int, levels: int) -> int:
    """Run a worker; returns the union of the bits of all chunks."""
    per_chunk = CHUNK * bits // 8
    chunks = math.ceil(len(words) / per_chunk)
    counter, unions, record = np.zeros(1, np.int64), np.zeros(chunks, np.uint8), np.zeros(1, JOB)
    addresses = {"counter": counter.ctypes.data, "marks": unions.ctypes.data, "z": memory.data_ptr(), "out": words.data_ptr()}
    sizes = {"size": memory.numel(), "step": len(words), "side": bits, "chunks": chunks, "per_chunk": per_chunk, "area": levels}
    for name, value in {**addresses, **sizes}.items():
        record[name] = value
    threads.run(build.address(make, STORAGE[memory.dtype]), record.ctypes.data, chunks)
    return int(np.bitwise_or.reduce(unions))


@loop
def insert(words, x, levels, shift, n):
    """Set bits of n words; the union of the bits of all elements."""
    union = np.uint8(0)
    for j in range(n):
        number = np.int32(get(x, j) * levels + HALF)
        words[j] |= np.uint8(shifted_left(number, shift))
        union |= np.uint8(number)
    return union


@loop
def extract(x, words, levels, shift, mask, n):
    """Set n elements from bits of words."""
    for j in range(n):
        put(x, j, np.float32(shifted_right(np.int32(words[j]), shift) & mask) / levels)


def pack(dtype: type) -> Worker:
    """A worker that writes ``step`` bytes ``out`` with ``side`` bits per element of z, and the union of bits of each chunk to ``marks``."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, words = carray(pointer(job.z), (job.size,), dtype), carray(pointer(job.out), (job.step,), np.uint8)
        unions = carray(pointer(job.marks), (job.chunks,), np.uint8)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            first = chunk * job.per_chunk
            count, union = min(job.per_chunk, job.step - first), np.uint8(0)
            words[first : first + count] = 0
            for plane in range(8 // job.side):
                begin = plane * job.step + first
                n = max(0, min(count, job.size - begin))
                shift = np.int32(plane * job.side)
                union |= insert(words[first : first + n], x[begin : begin + n], job.area, shift, n)
            unions[chunk] = union

    return worker


def unpack(dtype: type) -> Worker:
    """A worker that reverses :func:`pack`."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, words = carray(pointer(job.z), (job.size,), dtype), carray(pointer(job.out), (job.step,), np.uint8)
        mask = np.int32(2**job.side - 1)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            first = chunk * job.per_chunk
            count = min(job.per_chunk, job.step - first)
            for plane in range(8 // job.side):
                begin = plane * job.step + first
                n = max(0, min(count, job.size - begin))
                extract(x[begin : begin + n], words[first : first + n], job.area, np.int32(plane * job.side), mask, n)

    return worker
