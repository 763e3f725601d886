"""Numba intrinsics of the kernels: arrays at an address, bfloat16 as 16-bit integers, powers of two, an atomic counter."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import carray, types
from numba.core import cgutils, config
from numba.extending import intrinsic, overload, register_jitable

# Division with Python's error model raises on 0, which prevents vectorisation. A call would copy arrays: without inlining, passes over neurons
# take up to a third longer.
loop = register_jitable(error_model="numpy", forceinline=True)
I32, I64, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()


def emits(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator that makes a function, of an LLVM builder and the values of arguments of these types, an intrinsic with this result."""

    def decorate(emit: Callable[..., Any]) -> Any:
        def typed(typing: Any, *given: Any) -> Any:
            return result(*arguments), lambda context, builder, signature, values: emit(builder, *values)

        return intrinsic(update_wrapper(typed, emit))

    return decorate


@emits(types.voidptr, types.int64)
def pointer(builder: Any, address: Any) -> Any:
    """An int64 address as a pointer."""
    return builder.inttoptr(address, ir.IntType(8).as_pointer())


@emits(types.int64, types.int64)
def fetch_and_add(builder: Any, address: Any) -> Any:
    """Atomically increment the int64 at an address; returns its previous value."""
    return builder.atomic_rmw("add", builder.inttoptr(address, I64.as_pointer()), ir.Constant(I64, 1), "monotonic")


@emits(types.float32, types.int32)
def power_of_two(builder: Any, n: Any) -> Any:
    """2^n in float32, for an int32 n from -126 to 127."""
    return builder.bitcast(builder.shl(builder.add(n, ir.Constant(I32, 127)), ir.Constant(I32, 23)), FLOAT)


@emits(types.float32, types.uint16)
def widened(builder: Any, word: Any) -> Any:
    """The float32 of a bfloat16 given as uint16."""
    return builder.bitcast(builder.shl(builder.zext(word, I32), ir.Constant(I32, 16)), FLOAT)


@emits(types.uint16, types.float32)
def rounded(builder: Any, x: Any) -> Any:
    """The bits of the bfloat16 nearest to a float32, ties to even, NaN to NaN."""
    bits = builder.bitcast(x, I32)
    last = builder.and_(builder.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
    up = builder.add(bits, builder.add(last, ir.Constant(I32, 0x7FFF)))
    word = builder.trunc(builder.lshr(up, ir.Constant(I32, 16)), ir.IntType(16))
    return builder.select(builder.fcmp_unordered("uno", x, x), ir.Constant(ir.IntType(16), 0x7FC0), word)


def get(array, j):  # type: ignore[no-untyped-def]
    """Element j of an array of float32, of bfloat16 stored as uint16, or of uint8, as float32."""
    raise NotImplementedError


def put(array, j, x):  # type: ignore[no-untyped-def]
    """Set element j of such an array to a float32, which for uint8 is a whole number."""
    raise NotImplementedError


@overload(get, inline="always")
def _get(array, j):  # type: ignore[no-untyped-def]
    if array.dtype == types.uint16:
        return lambda array, j: widened(array[j])
    if array.dtype == types.uint8:
        return lambda array, j: np.float32(array[j])
    return lambda array, j: array[j]


@overload(put, inline="always")
def _put(array, j, x):  # type: ignore[no-untyped-def]
    if array.dtype == types.uint16:

        def put_rounded(array, j, x):  # type: ignore[no-untyped-def]
            array[j] = rounded(x)

        return put_rounded
    if array.dtype == types.uint8:

        def put_whole(array, j, x):  # type: ignore[no-untyped-def]
            array[j] = np.uint8(x)

        return put_whole

    def put_plain(array, j, x):  # type: ignore[no-untyped-def]
        array[j] = x

    return put_plain


@loop
def floats(address, n):  # type: ignore[no-untyped-def]
    """n float32 at an address."""
    return carray(pointer(address), (n,), np.float32)


@loop
def uncounted(array):  # type: ignore[no-untyped-def]
    """The same float32, as an array whose parts have no count of references, which takes as long as a loop over a hundred elements.

    The memory is freed after the last use of the array itself.
    """
    return carray(pointer(array.ctypes.data), array.shape, np.float32)


@loop
def doubles(address, n):  # type: ignore[no-untyped-def]
    """n float64 at an address."""
    return carray(pointer(address), (n,), np.float64)


# float32 in a vector; numba compiles for another processor where NUMBA_CPU_FEATURES or NUMBA_CPU_NAME=generic says so.
LANES = 16 if config.CPU_FEATURES is None and get_host_cpu_features().get("avx512f") else 8
REGISTERS = 8  # of sums
BLOCK = LANES * REGISTERS
VECTOR = ir.VectorType(FLOAT, LANES)


@emits(types.uint64, types.int64)
def word_at(builder: Any, address: Any) -> Any:
    """The uint64 at an address, which need not be aligned."""
    return builder.load(builder.inttoptr(address, I64.as_pointer()), align=1)


@emits(types.int64, types.uint64)
def lowest_bit(builder: Any, word: Any) -> Any:
    """The number of the lowest bit that is set in a uint64 other than 0."""
    return builder.cttz(word, ir.Constant(ir.IntType(1), 1))


@emits(types.void, types.int64, types.int64, types.uint64, types.float32)
def add_rows(builder: Any, sums: Any, rows: Any, word: Any, factor: Any) -> Any:
    """Add to ``BLOCK`` float32 sums a factor times the sum of those rows of ``BLOCK`` float32 whose bits are set in a uint64.

    The sum of the rows stays in registers, and a row is read as it is added. Arguments: the address of the sums, that of row 0, the word,
    the factor.
    """
    start, body, end = builder.block, builder.append_basic_block("row"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_unsigned("!=", word, ir.Constant(I64, 0)), body, end)

    builder.position_at_end(body)
    left, totals = builder.phi(I64), [builder.phi(VECTOR) for _ in range(REGISTERS)]
    row = builder.mul(builder.cttz(left, ir.Constant(ir.IntType(1), 1)), ir.Constant(I64, 4 * BLOCK))
    new = [
        builder.fadd(total, builder.load(place, align=4))
        for total, place in zip(totals, _vectors(builder, builder.add(rows, row)), strict=True)
    ]
    rest = builder.and_(left, builder.sub(left, ir.Constant(I64, 1)))
    left.add_incoming(word, start)
    left.add_incoming(rest, body)
    for total, later in zip(totals, new, strict=True):
        total.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), start)
        total.add_incoming(later, body)
    last = builder.append_basic_block("last")
    builder.cbranch(builder.icmp_unsigned("!=", rest, ir.Constant(I64, 0)), body, last)

    builder.position_at_end(last)
    undefined = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, factor, ir.Constant(I32, 0))
    factors = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
    for place, total in zip(_vectors(builder, sums), new, strict=True):
        builder.store(builder.call(fma, [total, factors, builder.load(place, align=4)]), place, align=4)
    builder.branch(end)

    builder.position_at_end(end)
    return ir.Constant(ir.IntType(8).as_pointer(), None)


def _vectors(builder: Any, address: Any) -> list[Any]:
    """Pointers to the vectors of a block."""
    first = builder.inttoptr(address, VECTOR.as_pointer())
    return [builder.gep(first, [ir.Constant(I64, i)]) for i in range(REGISTERS)]
