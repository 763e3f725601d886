"""Convolutions of spikes, and the gradients of their weights, that add one row of float32 for each spike and kernel position.

No zero is multiplied: the time is in proportion to the number of spikes. Memory is channels last. A row has ``BLOCK`` elements; of 64 rows,
which stay in the L1 cache, those are added whose bits are set in a word of packed spikes:

    forward:             the sums of ``BLOCK`` output channels at a pixel; a row of weights for each of 64 input channels that fired
    gradient of weights: the sums of ``BLOCK`` output channels for an input channel; a row of dL/dz for each of 64 pixels at which it fired

In a linear layer, whose images have one pixel, the gradient of the weights adds dL/dz of a sample to the sums of each channel that fired.

A number k = 2^0 b_0 + 2^1 b_1 + ... adds its rows with the factors 2^j. Every sum is computed by one thread, in an order that depends on
shapes only: results are bit-identical for any number of threads.

Three workers take chunks of the result; ``job.rows`` is the address of what they add:

    forward   chunk: lines of the output    rows: weights   add_block > add_position > bits, then store
    backward  chunk: sums of the weights    rows: dL/dz     lay, then for 64 pixels add_tile > gather > bits, add_products
    outer     chunk: output channels        rows: dL/dz     add_outer > bits, then add_totals (linear layers)
"""

import math
from array import array
from collections import namedtuple
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numba import carray, from_dtype, types
from torch import Tensor
from torch.nn import functional as F

from lsgcli.neurons.kernels.cpu import build, threads
from lsgcli.neurons.kernels.cpu.intrinsics import (
    BLOCK,
    add_rows,
    fetch_and_add,
    floats,
    get,
    loop,
    lowest_bit,
    pointer,
    put,
    uncounted,
    word_at,
)
from lsgcli.neurons.kernels.cpu.job import STORAGE
from lsgcli.neurons.kernels.cpu.packing import Packed
from lsgcli.neurons.kernels.cpu.stages import write
from lsgcli.neurons.kernels.cpu.workers import Worker

# mypy: disable-error-code="no-untyped-def"
WORD = 64  # bits of a word
PIXELS = 512  # output pixels of a chunk: their sums stay in the L2 cache
TILES = 8  # words of pixels of a chunk of the gradient
ROW = 4 * BLOCK  # bytes
SAMPLES = 256  # whose sums are added up separately
SPAN = 64  # output channels of a chunk of the gradient of a linear layer, or a multiple of it
SIZES = ("N", "H", "W", "C", "height", "width", "channels", "side", "stride", "padding")
FIELDS = (
    "counter",
    "planes",
    "count",
    "plane",
    "rows",
    "bias",
    "out",
    *SIZES,
    "groups",
    "blocks",
    "parts",
    "levels",
    "per_chunk",
    "chunks",
)
Grid = namedtuple("Grid", "high wide size before")
ROWS = np.dtype([(name, np.int64) for name in FIELDS])
SIGNATURE = types.void(types.CPointer(from_dtype(ROWS)))


class Geometry(NamedTuple):
    """A convolution: its input (N, C, H, W), its output (N, channels, height, width), and its square kernel."""

    N: int
    H: int
    W: int
    C: int
    height: int
    width: int
    channels: int
    side: int
    stride: int
    padding: int

    @property
    def is_linear(self) -> bool:
        """Whether images and kernel have one pixel."""
        return self.H == self.W == self.side == 1 and self.padding == 0

    @property
    def groups(self) -> int:
        """Words of input channels."""
        return math.ceil(self.C / WORD)

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return math.ceil(self.channels / BLOCK)


def rows_of(weight: Tensor) -> Tensor:
    """The weight (channels, C, side, side) as rows of float32, (blocks, groups, side^2, 64, BLOCK)."""
    channels, C, side, _ = weight.shape
    padded, left = weight.detach().float(), (-C % WORD, -channels % BLOCK)
    if any(left):  # otherwise, this would be a copy
        padded = F.pad(padded, (0, 0, 0, 0, 0, left[0], 0, left[1]))
    return padded.reshape(-1, BLOCK, len(padded[0]) // WORD, WORD, side**2).permute(0, 2, 4, 3, 1).contiguous()


def convolved(spikes: Packed, shape: Geometry, rows: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> Tensor:
    """The convolution of spikes, (N, channels, height, width) in channels-last memory.

    Args:
        spikes: packed in channels-last memory.
        shape: of the convolution.
        rows: its weight, from :func:`rows_of`.
        dtype: of the result; sums are float32.
        bias: (channels,) in float32, added to the sums.
    """
    bias = torch.zeros(shape.channels) if bias is None else bias
    # Not a permuted view, which neurons could not overwrite: autograd refuses that for views made in a function of its own.
    out = torch.empty(shape.N, shape.channels, shape.height, shape.width, dtype=dtype, memory_format=torch.channels_last)
    lines = shape.N * shape.height
    per_chunk = max(1, min(PIXELS // shape.width, math.ceil(lines / torch.get_num_threads())))
    chunks = math.ceil(lines / per_chunk)
    worker = build.address(forward, STORAGE[dtype])
    threads.run(worker, _fields(spikes, shape, (rows, bias, out), 1, per_chunk, chunks), chunks)
    return out


def weight_gradient(spikes: Packed, shape: Geometry, grad: Tensor) -> Tensor:
    """Gradient of the weight, (channels, C, side, side), in float32.

    Args:
        spikes: as for :func:`convolved`.
        shape: of the convolution.
        grad: gradient of its output, (N, channels, height, width).
    """
    rows = grad.permute(0, 2, 3, 1).contiguous()
    if shape.is_linear:
        out = torch.zeros(shape.C, shape.channels)
        channels = math.ceil(shape.channels / torch.get_num_threads() / SPAN) * SPAN  # of a chunk
        chunks = math.ceil(shape.channels / channels)
        worker = build.address(outer, STORAGE[grad.dtype])
        threads.run(worker, _fields(spikes, shape, (rows, out, out), 1, channels, chunks), chunks)
        return out.t()[..., None, None]
    out = torch.empty(shape.blocks, shape.groups, shape.side**2, WORD, BLOCK)
    parts = 1 if shape.blocks * shape.groups >= 2 * torch.get_num_threads() else shape.side
    units = shape.blocks * shape.groups * parts
    worker = build.address(backward, STORAGE[grad.dtype])
    threads.run(worker, _fields(spikes, shape, (rows, out, out), parts, 1, units), units)
    # In the order of the weight, so that autograd need not copy whole words and blocks.
    whole = out.permute(0, 4, 2, 1, 3).reshape(shape.blocks * BLOCK, shape.side, shape.side, shape.groups * WORD)
    return whole[: shape.channels, ..., : shape.C].permute(0, 3, 1, 2)


def _fields(
    spikes: Packed, shape: Geometry, tensors: Iterable[Tensor], parts: int, per_chunk: int, chunks: int
) -> "array[int]":
    """``FIELDS`` of a worker; the tensors are rows, bias and output. ``parts`` is the number of chunks that share a kernel: 1, or its lines."""
    planes, sizes = spikes.planes, (*shape, shape.groups, shape.blocks, parts, spikes.levels, per_chunk, chunks)
    addresses = (tensor.data_ptr() for tensor in tensors)
    return array("q", (0, planes.data_ptr(), planes.shape[0], planes.stride(0), *addresses, *sizes, 0))


@loop
def bits(job, plane, pixel, group):
    """Bits of up to 64 channels of a pixel."""
    first = pixel * job.C + group * WORD
    address, shift = job.planes + plane * job.plane + first // 8, np.uint64(first % 8)
    word = word_at(address) >> shift
    if shift:
        word |= word_at(address + 8) << (np.uint64(64) - shift)
    left = job.C - group * WORD
    return word & ((np.uint64(1) << np.uint64(left)) - np.uint64(1)) if left < WORD else word


@loop
def add_block(job, sums, block, first, count):
    """Add all input channels at all kernel positions to the sums of a block of channels of ``count`` lines."""
    taps = job.side * job.side
    for group in range(job.groups):
        for tap in range(taps):
            rows = job.rows + ((block * job.groups + group) * taps + tap) * WORD * ROW
            add_position(job, sums, rows, tap, group, first, count)


@loop
def add_position(job, sums, rows, tap, group, first, count):
    """Add a word of input channels at kernel position ``tap`` to the sums of ``count`` lines of the output from ``first``."""
    dy, dx = tap // job.side - job.padding, tap % job.side - job.padding
    left, right = max(0, -(dx // job.stride)), min(job.width, (job.W - 1 - dx) // job.stride + 1)  # where x is in the image
    for line in range(count):
        n, y = (first + line) // job.height, (first + line) % job.height * job.stride + dy
        if y < 0 or y >= job.H:
            continue
        for x in range(left, right):
            pixel = (n * job.H + y) * job.W + x * job.stride + dx
            place = sums.ctypes.data + (line * job.width + x) * ROW
            for plane in range(job.count):
                add_rows(place, rows, bits(job, plane, pixel, group), np.float32(1 << plane))


@loop
def store(job, out, sums, bias, block, first, count):
    """Write the sums of a block of channels of ``count`` lines, with the bias."""
    channels, levels = min(BLOCK, job.channels - block * BLOCK), np.float32(job.levels)
    of_block = bias[block * BLOCK : block * BLOCK + channels]
    for pixel in range(count * job.width):
        begin = (first * job.width + pixel) * job.channels + block * BLOCK
        part, own = out[begin : begin + channels], sums[pixel * BLOCK : pixel * BLOCK + channels]
        for i in range(channels):
            put(part, i, own[i] / levels + of_block[i])


def forward(dtype: type) -> Worker:
    """A worker for chunks of ``per_chunk`` lines of the output."""

    def worker(at):
        job = carray(at, (1,))[0]
        out = carray(pointer(job.out), (job.N * job.height * job.width * job.channels,), dtype)
        room = np.empty(job.per_chunk * job.width * BLOCK, np.float32)
        sums = uncounted(room)
        bias = floats(job.bias, job.channels)
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            first = chunk * job.per_chunk
            count = min(job.per_chunk, job.N * job.height - first)
            for block in range(job.blocks):
                room[: count * job.width * BLOCK] = 0
                add_block(job, sums, block, first, count)
                store(job, out, sums, bias, block, first, count)
            chunk = fetch_and_add(job.counter)

    return worker


def outer(dtype: type) -> Worker:
    """A worker for chunks of ``per_chunk`` output channels of the gradient of a linear layer's weight, (C, channels), from zeros.

    Sums of ``SAMPLES`` samples are added to those before, because the error of a long sum in float32 grows with its length.
    """

    def worker(at):
        job = carray(at, (1,))[0]
        grad = carray(pointer(job.rows), (job.N * job.channels,), dtype)
        out = floats(job.out, job.C * job.channels)
        room = np.empty(job.C * job.per_chunk, np.float32)
        sums = uncounted(room)
        chunk = fetch_and_add(job.counter)
        while chunk < job.chunks:
            first = chunk * job.per_chunk
            channels = min(job.channels - first, job.per_chunk)
            for begin in range(0, job.N, SAMPLES):
                room[:] = 0
                for n in range(begin, min(begin + SAMPLES, job.N)):
                    row = grad[n * job.channels + first : n * job.channels + first + channels]
                    add_outer(job, sums, row, n)
                add_totals(job, out, sums, first, channels)
            chunk = fetch_and_add(job.counter)

    return worker


@loop
def add_totals(job, out, sums, first, channels):
    """Add the sums of a chunk of output channels to the gradient."""
    levels = np.float32(job.levels)
    for c in range(job.C):
        part = sums[c * job.per_chunk : c * job.per_chunk + channels]
        total = out[c * job.channels + first : c * job.channels + first + channels]
        for i in range(channels):
            total[i] += part[i] / levels


@loop
def add_outer(job, sums, row, n):
    """Add a row of dL/dz to the sums of each channel of sample n that fired."""
    for plane in range(job.count):
        factor = np.float32(1 << plane)
        for group in range(job.groups):
            word = bits(job, plane, n, group)
            while word:
                place = (group * WORD + lowest_bit(word)) * job.per_chunk
                part = sums[place : place + len(row)]
                word &= word - np.uint64(1)
                for i in range(len(row)):
                    part[i] += factor * get(row, i)


@loop
def grid_of(job):
    """The grid of the backward pass: pixels with borders, and how many of those before a pixel its products reach."""
    reach = (job.side - 1) // job.stride
    high = max((job.H - 1 + job.padding) // job.stride + 1, job.height + reach)
    wide = max((job.W - 1 + job.padding) // job.stride + 1, job.width + reach)
    return Grid(high, wide, job.N * high * wide, reach * (wide + 1))


@loop
def transpose(words):
    """Transpose 64 words of 64 bits in place."""
    width, mask = 32, np.uint64(0x00000000FFFFFFFF)
    while width:
        shift, k = np.uint64(width), 0
        while k < WORD:
            swapped = (words[k] >> shift ^ words[k + width]) & mask
            words[k + width] ^= swapped
            words[k] ^= swapped << shift
            k = (k + width + 1) & ~width
        width //= 2
        mask ^= mask << np.uint64(width)


@loop
def lay(job, grad, rows, grid, first, block):
    """Copy dL/dz of a block of channels to ``rows``, from the grid's pixel ``first - before`` on; borders are zero."""
    channels = min(BLOCK, job.channels - block * BLOCK)
    for i in range(grid.before + TILES * WORD):
        place, row = first - grid.before + i, rows[i * BLOCK : i * BLOCK + channels]
        n, y, x = place // (grid.high * grid.wide), place // grid.wide % grid.high, place % grid.wide
        if 0 <= place < grid.size and y < job.height and x < job.width:
            begin = ((n * job.height + y) * job.width + x) * job.channels + block * BLOCK
            write(row, grad[begin : begin + channels], channels)
        else:
            row[:] = 0


@loop
def gather(job, words, grid, first, down, across, plane, group):
    """Words of 64 input channels, each with a bit for each of 64 pixels of the grid from ``first`` on."""
    for i in range(WORD):
        place = first + i
        n = place // (grid.high * grid.wide)
        y = place // grid.wide % grid.high * job.stride + down - job.padding
        x = place % grid.wide * job.stride + across - job.padding
        inside = place < grid.size and 0 <= y < job.H and 0 <= x < job.W
        words[i] = bits(job, plane, (n * job.H + y) * job.W + x, group) if inside else np.uint64(0)
    transpose(words)


@loop
def add_products(job, total, rows, words, lines, wide, down, across, group, factor):
    """Add the rows of the pixels in the words to the sums of the kernel positions in ``lines`` whose remainders are down and across.

    ``rows`` is the address of the row of the first pixel, ``total`` that of the sums.
    """
    inputs = min(WORD, job.C - group * WORD)
    for ky in range(lines[0], lines[1]):
        if ky % job.stride != down:
            continue
        for kx in range(across, job.side, job.stride):
            row = rows - (ky // job.stride * wide + kx // job.stride) * ROW
            place = total + (ky * job.side + kx) * WORD * ROW
            for i in range(inputs):
                add_rows(place + i * ROW, row, words[i], factor)


@loop
def add_tile(job, total, row, words, grid, first, lines, group):
    """Add the products of 64 pixels of the grid from ``first`` on, of which ``row`` is the address of the first, to the sums."""
    for phase in range(job.stride * job.stride):
        down, across = phase // job.stride, phase % job.stride
        for plane in range(job.count):
            gather(job, words, grid, first, down, across, plane, group)
            add_products(job, total, row, words, lines, grid.wide, down, across, group, np.float32(1 << plane))


def backward(dtype: type) -> Worker:
    """A worker for units: a block of output channels, a word of input channels, and all or one line of the kernel.

    Pixels are on a grid with borders, of which that of dL/dz is zero: input pixel ``stride * q + r - padding`` of the grid's pixel q is
    multiplied by dL/dz at q - k // stride, for each kernel position k with k % stride = r.
    """

    def worker(at):
        job = carray(at, (1,))[0]
        grad = carray(pointer(job.rows), (job.N * job.height * job.width * job.channels,), dtype)
        grid, of_line = grid_of(job), job.side * WORD * BLOCK
        room, words = np.zeros((grid.before + TILES * WORD) * BLOCK, np.float32), np.empty(WORD, np.uint64)
        rows = uncounted(room)
        unit = fetch_and_add(job.counter)
        while unit < job.chunks:
            part, pair = unit % job.parts, unit // job.parts
            block, group = pair // job.groups, pair % job.groups
            lines = (part * job.side // job.parts, (part + 1) * job.side // job.parts)  # of the kernel
            total = floats(job.out + pair * job.side * of_line * 4, job.side * of_line)
            own = total[lines[0] * of_line : lines[1] * of_line]
            own[:] = 0
            for first in range(0, grid.size, TILES * WORD):
                lay(job, grad, rows, grid, first, block)
                for tile in range(min(TILES, (grid.size - first + WORD - 1) // WORD)):
                    row = room.ctypes.data + (grid.before + tile * WORD) * ROW
                    add_tile(job, total.ctypes.data, row, words, grid, first + tile * WORD, lines, group)
            if job.levels > 1:
                own /= np.float32(job.levels)
            unit = fetch_and_add(job.counter)

    return worker
