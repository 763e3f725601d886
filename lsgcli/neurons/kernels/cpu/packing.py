"""Packs numbers of spikes into bits, and unpacks them.

A number k = 2^0 b_0 + 2^1 b_1 + ... is in as many planes as the largest number has bits. Plane j holds b_j of element i, in memory order, in
bit i % 8 of byte i // 8. An element x stands for the number x * levels.
"""

import math
from array import array
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import NamedTuple

import numpy as np
import torch
from numba import carray, from_dtype, types
from torch import Tensor

from lsgcli.neurons.kernels.cpu import build, threads
from lsgcli.neurons.kernels.cpu.intrinsics import fetch_and_add, get, loop, pointer, put
from lsgcli.neurons.kernels.cpu.job import STORAGE
from lsgcli.neurons.kernels.cpu.workers import Worker

# mypy: disable-error-code="no-untyped-def"
HALF = np.float32(0.5)
CHUNK = 1 << 15  # elements that one thread packs at a time
LARGEST = 255  # number
SCRATCH = 4096  # elements as bytes, in the L1 cache
PADDING = 16  # bytes after each plane, so that 64 bits can be read at any element
LOWEST = np.uint64(0x0101010101010101)  # the lowest bit of each of eight bytes
GATHER = np.uint64(0x0102040810204080)  # moves them into the highest byte of a product
DIAGONAL = np.uint64(0x8040201008040201)  # bit i of byte i
BELOW = np.uint64(0x7F7F7F7F7F7F7F7F)
ADDRESSES = ("counter", "memory", "planes", "unions", "spikes")
PACKING = np.dtype([(name, np.int64) for name in (*ADDRESSES, "n", "count", "stride", "levels", "chunks")])
SIGNATURE = types.void(types.CPointer(from_dtype(PACKING)))


class Packed(NamedTuple):
    """Packed numbers of spikes.

    Attributes:
        planes: (planes, bytes) of uint8.
        n: number of elements.
        levels: an element is its number / levels.
        dtype: of the elements.
        spikes: sum of all numbers.
    """

    planes: Tensor
    n: int
    levels: int
    dtype: torch.dtype
    spikes: int

    @property
    def density(self) -> float:
        """Spikes per element."""
        return self.spikes / self.n

    def restore(self) -> Tensor:
        """The elements, (n,)."""
        memory = torch.empty(self.n, dtype=self.dtype)
        _run(unpack, memory, self.planes, self.levels)
        return memory


def packed(x: Tensor, levels: int) -> Packed:
    """Numbers of spikes in as many bits as the largest needs.

    Args:
        x: a dense float32 or bfloat16 tensor of whole numbers / levels, up to 255 / levels. With more than one level, others above
            -1.5 / levels are rounded, to 0 or more, because averages of spikes are rounded themselves.

    Raises:
        ValueError: a number is not from 0 to 255, or with one level not whole.
    """
    n, count = x.numel(), levels.bit_length()
    while True:
        planes = torch.empty(count, math.ceil(n / 64) * 8 + PADDING, dtype=torch.uint8)
        union, spikes = _run(pack, x, planes, levels)
        if not 0 <= union <= LARGEST:
            raise ValueError(f"spikes: found elements other than 0 to {LARGEST} times 1 / {levels}, expected no others")
        if (needed := max(1, union.bit_length())) <= count:
            return Packed(planes[:needed], n, levels, x.dtype, spikes)
        count = needed


def _run(make: Callable[[type], Worker], memory: Tensor, planes: Tensor, levels: int) -> tuple[int, int]:
    """Run a worker; returns the union of the bits of all numbers, and their sum."""
    chunks = math.ceil(memory.numel() / CHUNK)
    results = array("q", bytes(16 * chunks))  # unions and sums of the chunks
    unions, n = results.buffer_info()[0], memory.numel()
    addresses = (memory.data_ptr(), planes.data_ptr(), unions, unions + 8 * chunks)
    worker = build.address(make, STORAGE[memory.dtype])
    job = array("q", (0, *addresses, n, planes.shape[0], planes.stride(0), levels, chunks, 0))
    threads.run(worker, job, chunks)
    return reduce(or_, results[:chunks]), sum(results[chunks:])


@loop
def arrays(job, dtype):
    """Elements, planes as bytes, and scratch memory as bytes and as words of 8 bytes."""
    scratch = np.zeros(SCRATCH, np.uint8)
    memory = carray(pointer(job.memory), (job.n,), dtype)
    return memory, carray(pointer(job.planes), (job.count * job.stride,), np.uint8), scratch, scratch.view(np.uint64)


def pack(dtype: type) -> Worker:
    """A worker that writes ``count`` planes of elements, and the union of the bits and the sum of the numbers of each chunk."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, planes, numbers, words = arrays(job, dtype)
        unions, spikes = (
            carray(pointer(job.unions), (job.chunks,), np.int64),
            carray(pointer(job.spikes), (job.chunks,), np.int64),
        )
        levels = np.float32(job.levels)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            union, total = np.int32(0), np.int64(0)
            for first in range(chunk * CHUNK, min((chunk + 1) * CHUNK, job.n), SCRATCH):
                m = min(SCRATCH, job.n - first)
                part, sum_, others = x[first : first + m], np.int32(0), np.int32(0)
                for i in range(m):
                    number = np.int32(get(part, i) * levels + HALF)
                    numbers[i] = np.uint8(number)
                    union |= number
                    sum_ += number
                    others |= np.float32(number) != get(part, i)
                if job.levels == 1 and others:
                    union |= np.int32(LARGEST + 1)
                numbers[m : min((m + 7) // 8 * 8, SCRATCH)] = 0
                total += sum_
                for plane in range(job.count):
                    begin = plane * job.stride + first // 8
                    for i in range((m + 7) // 8):
                        lowest = words[i] >> np.uint64(plane) & LOWEST
                        planes[begin + i] = np.uint8(lowest * GATHER >> np.uint64(56))
            unions[chunk], spikes[chunk] = union, total

    return worker


def unpack(dtype: type) -> Worker:
    """A worker that reverses :func:`pack`."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, planes, numbers, words = arrays(job, dtype)
        while True:
            chunk = fetch_and_add(job.counter)
            if chunk >= job.chunks:
                break
            for first in range(chunk * CHUNK, min((chunk + 1) * CHUNK, job.n), SCRATCH):
                m = min(SCRATCH, job.n - first)
                words[: (m + 7) // 8] = 0
                for plane in range(job.count):
                    begin = plane * job.stride + first // 8
                    for i in range((m + 7) // 8):
                        alone = (np.uint64(planes[begin + i]) * LOWEST & DIAGONAL) + BELOW >> np.uint64(7) & LOWEST
                        words[i] |= alone << np.uint64(plane)
                part = x[first : first + m]
                for i in range(m):
                    put(part, i, np.float32(numbers[i]) / np.float32(job.levels))

    return worker
