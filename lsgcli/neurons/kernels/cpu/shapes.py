"""Surrogates as scalar float32 functions, compiled into the backward kernels, from the expressions in ``lsgcli.neurons.surrogates``."""

import hashlib
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from lsgcli.neurons.kernels.cpu.intrinsics import loop, power_of_two
from lsgcli.neurons.surrogates import FORMS, Surrogate

Scalar = Callable[[Any, Any, Any], Any]
NUMBER = re.compile(r"(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?")

ONE, HALF, pi = np.float32(1), np.float32(0.5), np.float32(math.pi)
LOWEST, LOG2_E = np.float32(-87.0), np.float32(math.log2(math.e))
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
C2, C3, C4, C5, C6 = (np.float32(1 / math.factorial(n)) for n in range(2, 7))


@loop
def exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0, with a relative error of about 2e-7, clamped at exp(-87).

    Computed as 2^n times the series around 0; the library function would not be vectorised.
    """
    x = max(x, LOWEST)
    n = np.int32(x * LOG2_E - HALF)
    r = x - np.float32(n) * LN2_HIGH - np.float32(n) * LN2_LOW
    series = ONE + r * (ONE + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    return series * power_of_two(n)


def scalar(surrogate: Surrogate) -> Scalar:
    """The surrogate as a function of x = u - v_th, half the width, and 1 / width, float32 each."""
    return _function(FORMS[surrogate].numba)


@cache
def _function(expression: str) -> Scalar:
    # numba types a literal as float64 and would promote the arithmetic.
    steps, _, value = NUMBER.sub(r"np.float32(\g<0>)", expression).rpartition(";")
    # numba's cache on disk knows a function by its module and name.
    name = f"h_{hashlib.sha256(expression.encode()).hexdigest()[:16]}"
    exec(f"def {name}(x, half, inverse):\n    {steps}\n    return {value}", globals())
    function: Scalar = loop(globals()[name])
    return function
