"""The surrogates of ``lsgcli.neurons.surrogates`` as Triton functions.

Each is h(x, width) of tiles with x = u - v_th; ``width`` broadcasts against x. A surrogate not listed here, such as that of a plug-in,
runs on the reference backend.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import math
from typing import Any

import triton
import triton.language as tl

from lsgcli import registry
from lsgcli.neurons.surrogates import Surrogate

PI = tl.constexpr(math.pi)


@triton.jit
def rectangular(x, width):
    """1/width where abs(x) < width/2, else 0."""
    return tl.where(tl.abs(x) < width / 2, 1 / width, 0.0)


@triton.jit
def triangular(x, width):
    """max(0, 1 - abs(x)/width) / width."""
    return tl.maximum(1 - tl.abs(x) / width, 0.0) / width


@triton.jit
def exponential(x, width):
    """exp(-2 abs(x) / width) / width."""
    return tl.exp(tl.abs(x) * (-2 / width)) / width


@triton.jit
def sigmoid(x, width):
    """4 s (1 - s) / width, s = sigmoid(4x / width): the exponent is at most 0, so it cannot overflow."""
    slope = 4 / width
    e = tl.exp(tl.abs(x) * -slope)
    s = 1 / (1 + e)
    return slope * e * s * s


@triton.jit
def atan(x, width):
    """1 / (width (1 + (pi x / width)^2))."""
    y = x * (PI / width)
    return 1 / (width * (1 + y * y))


# tanh and sigmoid are the same function at equal equivalent width.
BY_NAME = {
    "rectangular": rectangular,
    "triangular": triangular,
    "exponential": exponential,
    "sigmoid": sigmoid,
    "tanh": sigmoid,
    "atan": atan,
}


def compiled(surrogate: Surrogate) -> Any:
    """The Triton function of a registered surrogate, or None."""
    return next((shape for name, shape in BY_NAME.items() if registry.get("surrogate", name) is surrogate), None)
