"""Numba intrinsics of the kernels: arrays at an address, bfloat16 as 16-bit integers, powers of two, an atomic counter."""

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

# Division with Python's error model raises on 0, which prevents vectorisation.
loop = register_jitable(error_model="numpy")
I32, FLOAT = ir.IntType(32), ir.FloatType()


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An int64 address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


@intrinsic
def fetch_and_add(typing: Any, address: Any) -> Any:
    """Atomically increment the int64 at an address; returns its previous value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def power_of_two(typing: Any, n: Any) -> Any:
    """2^n in float32, for an int32 n from -126 to 127."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent = builder.add(arguments[0], ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(I32, 23)), FLOAT)

    return types.float32(types.int32), generate


@intrinsic
def widened(typing: Any, word: Any) -> Any:
    """The float32 of a bfloat16 given as uint16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(arguments[0], I32), ir.Constant(I32, 16)), FLOAT)

    return types.float32(types.uint16), generate


@intrinsic
def rounded(typing: Any, x: Any) -> Any:
    """The bits of the bfloat16 nearest to a float32, ties to even, NaN to NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], I32)
        last = builder.and_(builder.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
        up = builder.add(bits, builder.add(last, ir.Constant(I32, 0x7FFF)))
        word = builder.trunc(builder.lshr(up, ir.Constant(I32, 16)), ir.IntType(16))
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        return builder.select(is_nan, ir.Constant(ir.IntType(16), 0x7FC0), word)

    return types.uint16(types.float32), generate


@intrinsic
def shifted_left(typing: Any, word: Any, n: Any) -> Any:
    """An int32 shifted by n bits; numba's operator widens to 64 bits, half as many per vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.shl(*arguments)

    return types.int32(types.int32, types.int32), generate


@intrinsic
def shifted_right(typing: Any, word: Any, n: Any) -> Any:
    """As :func:`shifted_left`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.lshr(*arguments)

    return types.int32(types.int32, types.int32), generate


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
def doubles(address, n):  # type: ignore[no-untyped-def]
    """n float64 at an address."""
    return carray(pointer(address), (n,), np.float64)


LANES = 16 if get_host_cpu_features().get("avx512f") else 8  # float32 in a vector
REGISTERS = 8  # of sums
BLOCK = LANES * REGISTERS
VECTOR = ir.VectorType(FLOAT, LANES)
I64 = ir.IntType(64)


@intrinsic
def word_at(typing: Any, address: Any) -> Any:
    """The uint64 at an address, which need not be aligned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], I64.as_pointer()), align=1)

    return types.uint64(types.int64), generate


@intrinsic
def add_rows(typing: Any, sums: Any, rows: Any, word: Any, factor: Any) -> Any:
    """Add to ``BLOCK`` float32 sums a factor times the sum of those rows of ``BLOCK`` float32 whose bits are set in a uint64.

    The sum of the rows stays in registers, and a row is read as it is added. Arguments: the address of the sums, that of row 0, the word,
    the factor.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, rows, word, factor = arguments
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
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64, types.float32), generate


def _vectors(builder: Any, address: Any) -> list[Any]:
    """Pointers to the vectors of a block."""
    first = builder.inttoptr(address, VECTOR.as_pointer())
    return [builder.gep(first, [ir.Constant(I64, i)]) for i in range(REGISTERS)]
