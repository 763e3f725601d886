"""Numba intrinsics of the kernels: arrays at an address, bfloat16 as 16-bit integers, powers of two, an atomic counter."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
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
