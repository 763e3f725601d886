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
CHUNK = 1 << 14  # elements that one thread packs at a time, whose numbers as bytes stay in the L1 cache
LARGEST = 255  # number
PADDING = 16  # bytes after each plane, so that 64 bits can be read at any element
LOWEST = np.uint64(0x0101010101010101)  # the lowest bit of each of eight bytes
GATHER = np.uint64(0x0102040810204080)  # moves them into the highest byte of a product
DIAGONAL = np.uint64(0x8040201008040201)  # bit i of byte i
BELOW = np.uint64(0x7F7F7F7F7F7F7F7F)
ADDRESSES = ("counter", "memory", "planes", "results")
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
    addresses = (memory.data_ptr(), planes.data_ptr(), results.buffer_info()[0])
    worker = build.address(make, STORAGE[memory.dtype])
    job = array("q", (0, *addresses, memory.numel(), planes.shape[0], planes.stride(0), levels, chunks, 0))
    threads.run(worker, job, chunks)
    return reduce(or_, results[:chunks]), sum(results[chunks:])


@loop
def arrays(job, dtype):
    """Elements, planes as bytes, and scratch memory as bytes and as words of 8 bytes."""
    scratch = np.zeros(CHUNK, np.uint8)
    memory = carray(pointer(job.memory), (job.n,), dtype)
    return memory, carray(pointer(job.planes), (job.count * job.stride,), np.uint8), scratch, scratch.view(np.uint64)


@loop
def of_chunk(job, x, planes, chunk, plane):
    """Elements of a chunk, and their bytes of a plane.

    As arrays of their own: a loop whose indices have a sum in them is not vectorised, because numba checks their sign.
    """
    first = chunk * CHUNK
    m = min(CHUNK, job.n - first)
    begin = plane * job.stride + first // 8
    return x[first : first + m], planes[begin : begin + (m + 7) // 8]


@loop
def numbers_of(numbers, x, levels):
    """Write the numbers of x as bytes; the union of their bits, and their sum.

    With one level, the union of elements that are not whole is no number that :func:`packed` accepts.
    """
    union, total, others, factor = np.int32(0), np.int32(0), np.int32(0), np.float32(levels)
    for i in range(len(x)):
        number = np.int32(get(x, i) * factor + HALF)
        numbers[i] = np.uint8(number)
        union = np.int32(union | number)  # numba's integers would be of 64 bits, half as many in a vector
        total = np.int32(total + number)
        others = np.int32(others | np.int32(np.float32(number) != get(x, i)))
    return union | np.int32(LARGEST + 1) if levels == 1 and others else union, total


def pack(dtype: type) -> Worker:
    """A worker that writes ``count`` planes of elements, and the union of the bits and the sum of the numbers of each chunk."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, planes, numbers, words = arrays(job, dtype)
        results = carray(pointer(job.results), (2, job.chunks), np.int64)  # unions, and sums
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            part, _ = of_chunk(job, x, planes, chunk, 0)
            results[0, chunk], results[1, chunk] = numbers_of(numbers, part, job.levels)
            numbers[len(part) :] = 0
            for plane in range(job.count):
                _, bits = of_chunk(job, x, planes, chunk, plane)
                for i in range(len(bits)):
                    bits[i] = np.uint8((words[i] >> np.uint64(plane) & LOWEST) * GATHER >> np.uint64(56))
            chunk = fetch_and_add(job.counter)

    return worker


@loop
def scale(x, numbers, levels):
    """x = numbers / levels."""
    if levels == 1:  # a division takes longer than all else
        for i in range(len(x)):
            put(x, i, np.float32(numbers[i]))
    else:
        for i in range(len(x)):
            put(x, i, np.float32(numbers[i]) / np.float32(levels))


def unpack(dtype: type) -> Worker:
    """A worker that reverses :func:`pack`."""

    def worker(at):
        job = carray(at, (1,))[0]
        x, planes, numbers, words = arrays(job, dtype)
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            words[:] = 0
            for plane in range(job.count):
                _, bits = of_chunk(job, x, planes, chunk, plane)
                for i in range(len(bits)):
                    alone = (np.uint64(bits[i]) * LOWEST & DIAGONAL) + BELOW >> np.uint64(7) & LOWEST
                    words[i] |= alone << np.uint64(plane)
            part, _ = of_chunk(job, x, planes, chunk, 0)
            scale(part, numbers, job.levels)
            chunk = fetch_and_add(job.counter)

    return worker
