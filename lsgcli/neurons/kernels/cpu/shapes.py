"""The surrogates as scalar float32 functions, which are compiled into the backward kernels.

Each is keyed by the torch function of the surrogate, which documents formula and source. A surrogate that is missing here, such as
that of a plug-in, runs on the reference backend; :func:`scalar` registers it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lsgcli.neurons.kernels.cpu.intrinsics import loop, power_of_two
from lsgcli.neurons.surrogates import Surrogate, atan, exponential, rectangular, sigmoid, tanh, triangular

Scalar = Callable[[Any, Any, Any], Any]
SCALARS: dict[Surrogate, Scalar] = {}

# numba types a literal as float64 and would promote the arithmetic.
ZERO, HALF, ONE, TWO, FOUR, PI = (np.float32(x) for x in (0, 0.5, 1, 2, 4, math.pi))
LOWEST, LOG2_E = np.float32(-87.0), np.float32(math.log2(math.e))
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
C2, C3, C4, C5, C6 = (np.float32(1 / math.factorial(n)) for n in range(2, 7))


def scalar(surrogate: Surrogate) -> Callable[[Scalar], Scalar]:
    """Register the scalar form of ``surrogate``, with three float32 arguments: x = u - v_th, half the width, and 1 / width."""

    def decorate(function: Scalar) -> Scalar:
        SCALARS[surrogate] = loop(function)
        return SCALARS[surrogate]

    return decorate


@loop
def exp_of_negative(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0, with a relative error of about 2e-7, clamped at exp(-87).

    Computed as 2^n times the series around 0; the library function would not be vectorised.
    """
    x = max(x, LOWEST)
    n = np.int32(x * LOG2_E - HALF)
    r = x - np.float32(n) * LN2_HIGH - np.float32(n) * LN2_LOW
    series = ONE + r * (ONE + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    return series * power_of_two(n)


@scalar(rectangular)
def _rectangular(x, half, inverse):  # type: ignore[no-untyped-def]
    return inverse if abs(x) < half else ZERO


@scalar(triangular)
def _triangular(x, half, inverse):  # type: ignore[no-untyped-def]
    return max(ONE - abs(x) * inverse, ZERO) * inverse


@scalar(exponential)
def _exponential(x, half, inverse):  # type: ignore[no-untyped-def]
    return exp_of_negative(-TWO * abs(x) * inverse) * inverse


@scalar(atan)
def _atan(x, half, inverse):  # type: ignore[no-untyped-def]
    y = PI * x * inverse
    return inverse / (ONE + y * y)


def _logistic(x, half, inverse):  # type: ignore[no-untyped-def]
    e = exp_of_negative(-FOUR * abs(x) * inverse)
    return FOUR * e * inverse / ((ONE + e) * (ONE + e))


scalar(sigmoid)(_logistic)
scalar(tanh)(_logistic)  # the same function at one equivalent width
