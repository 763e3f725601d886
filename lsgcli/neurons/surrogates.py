"""Surrogate gradients.

A surrogate replaces the derivative of the step function, do/du, in the backward pass. Each surrogate is a function

    h(x, width) -> tensor like x,      x = u - v_th,

where **width** is the equivalent width, area over peak, for all shapes. Each shape has area 1 and peak 1/width, so shapes of equal
width pass the same total gradient and differ only in its distribution. The rectangular shape has support ``|x| < width/2``; all
others also have values outside of it. All but ``a2sg`` are symmetric.

``width`` is a number or a tensor that broadcasts against x; x has any shape and a floating-point dtype. :class:`Forms`, above the
function, has the integral of h, and h as an expression for the kernels of ``fused``.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from lsgcli.errors import ConfigError
from lsgcli.registry import register

Surrogate = Callable[[Tensor, Tensor], Tensor]


class Forms(NamedTuple):
    """Further forms of a surrogate, as a decorator of its torch function. What needs a missing form is not supported.

    An expression may follow assignments: ``y = pi * x / width; 1 / (width * (1 + y * y))``. ``pi`` is defined.

    Attributes:
        integral: H(x, width), the integral of h from -infinity to x, for the method ``asgl``.
        numba: expression of float32 scalars x, ``half`` (width / 2) and ``inverse`` (1 / width), for the backend ``fused``, with abs, min, max
            and exp, which requires y <= 0 in exp(y). Write any other function as a series, or add it beside exp in
            ``kernels/cpu/shapes.py``: those of ``math`` are not vectorised.
    """

    integral: Surrogate | None = None
    numba: str = ""

    def __call__(self, h: Surrogate) -> Surrogate:
        """h, after recording its forms."""
        FORMS[h] = self
        return h


FORMS: dict[Surrogate, Forms] = {}


def integral(h: Surrogate) -> Surrogate | None:
    """The integral of a surrogate; None if it is not known."""
    return FORMS.get(h, Forms()).integral


@register("surrogate", "rectangular")
@Forms(
    integral=lambda x, width: (x / width + 0.5).clamp(0, 1),
    numba="inverse if abs(x) < half else 0",
)
def rectangular(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = 1/width where abs(x) < width/2, else 0.

    Source: Wu et al., "Spatio-Temporal Backpropagation", Front. Neurosci. 2018, equation 24; Lian et al., IJCAI 2023.
    """
    return x.abs().lt_(width / 2).div_(width)  # four times as fast as with a boolean mask


@register("surrogate", "triangular")
@Forms(
    integral=lambda x, width: _ramp((x / width).clamp(-1, 1)),
    numba="max(1 - abs(x) * inverse, 0) * inverse",
)
def triangular(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = max(0, 1 - abs(x)/width) / width, with support abs(x) < width.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018.
    """
    return (1 - x.abs() / width).clamp_min(0) / width


def _ramp(y: Tensor) -> Tensor:
    """The integral of max(0, 1 - abs(y))."""
    return 0.5 + y - y * y.abs() / 2


@register("surrogate", "exponential")
@Forms(
    integral=lambda x, width: 0.5 + x.sign() * (1 - (x.abs() * (-2 / width)).exp()) / 2,
    numba="exp(-2 * abs(x) * inverse) * inverse",
)
def exponential(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = exp(-2 abs(x) / width) / width.

    Source: Shrestha and Orchard, "SLAYER", NeurIPS 2018.
    """
    return (x.abs() * (-2 / width)).exp() / width


# In terms of abs(x), so that the exponential cannot overflow.
LOGISTIC = Forms(
    integral=lambda x, width: (4 * x / width).sigmoid(),
    numba="e = exp(-4 * abs(x) * inverse); 4 * e * inverse / ((1 + e) * (1 + e))",
)


@register("surrogate", "sigmoid")
@LOGISTIC
def sigmoid(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = k s (1 - s) with s = sigmoid(k x), k = 4 / width: the derivative of sigmoid(k x).

    Source: Zenke and Ganguli, "SuperSpike", Neural Computation 2018, for sigmoidal surrogates in general.
    """
    s = (4 * x / width).sigmoid()
    return s * (1 - s) * 4 / width


@register("surrogate", "tanh")
@LOGISTIC
def tanh(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = sech^2(2x / width) / width, the derivative of tanh(2x / width) / 2.

    Identical to :func:`sigmoid` at equal width, because tanh(y) = 2 sigmoid(2y) - 1; the literature lists both with different
    scales.

    Source: Lian et al., IJCAI 2023, Figure 1.
    """
    return (1 - (2 * x / width).tanh().square()) / width


@register("surrogate", "atan")
@Forms(
    integral=lambda x, width: 0.5 + (x * (math.pi / width)).atan() / math.pi,
    numba="y = pi * x * inverse; inverse / (1 + y * y)",
)
def atan(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = 1 / (width (1 + (pi x / width)^2)), the derivative of atan(pi x / width) / pi.

    Its tails decay as 1/x^2, slower than those of all other shapes.

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021.
    """
    return 1 / (width * (1 + (x * (math.pi / width)).square()))


@register("surrogate", "a2sg")
@Forms(
    integral=lambda x, width: ((1 + (x / width).clamp(-1, 1)) / 2).square(),
    numba="(1 + x * inverse) * 0.5 * inverse if abs(x) <= 2 * half else 0",
)
def a2sg(x: Tensor, width: Tensor) -> Tensor:
    """h(x) = (1 + x/width) / (2 width) where abs(x) <= width, else 0: a ramp, which is highest at x = width.

    In the source, h(x) = x/(2b) + h0 where abs(x) <= b. This is its shape for b = width and h0 = 1/2, the smallest h0 without negative
    values, divided by its area b.

    Source: Kang et al., "A2SG: Adaptive and Asymmetric Surrogate Gradients for Training Deep Spiking Neural Networks", ICML 2026, at second
    hand. Its search for widths during training is not included.
    """
    return ((1 + x / width) / (2 * width)).where(x.abs() <= width, 0)


def mean_square(h: Surrogate, width: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """width^2 E[h(x, width)^2] for a normal x ~ N(mean, std^2), in [0, 1].

    Divides abs(x) < 4 width into 128 cells, and sums h^2 at the centre of each cell times the probability of the cell. This is exact for
    ``rectangular``, where it is the coverage; the error is below 0.5 % for the others.

    Args:
        h: a surrogate of peak 1/width.
        width: (...), in units of x.
        mean, std: (), in units of x.
    """
    edges = torch.linspace(-4, 4, 129, dtype=width.dtype, device=width.device)
    probabilities = torch.special.ndtr((width[..., None] * edges - mean) / std).diff()
    return probabilities @ h((edges[1:] + edges[:-1]) / 2, torch.ones_like(std)).square()


POINTS = 4001  # sampling points for the integral of a surrogate
TOLERANCE = 0.05  # of area and peak


@cache
def check_surrogate(name: str, h: Surrogate) -> None:
    """Check that a surrogate is a function of x and width with area 1 and peak 1/width. The area is integrated over x = tan(angle).

    Raises:
        ConfigError: it returns no tensor like x, or its area or peak differs.
    """
    angle = ((torch.arange(POINTS, dtype=torch.float64, device="cpu") + 0.5) / POINTS - 0.5) * math.pi
    for value in (0.5, 2.0):
        width = torch.tensor(value, dtype=torch.float64, device="cpu")
        x = value * angle.tan()
        heights = h(x.clone(), width)
        if not isinstance(heights, Tensor) or heights.shape != x.shape:
            raise ConfigError(f"surrogate {name}: found {heights!r:.80}, expected a tensor of the shape of x, {tuple(x.shape)}")
        area = float((heights * (1 + angle.tan().square())).mean()) * math.pi * value
        peak = float(heights.max()) * value
        if not (abs(area - 1) < TOLERANCE and abs(peak - 1) < TOLERANCE):  # also if they are NaN
            raise ConfigError(
                f"surrogate {name}: found an area of {area:.4g} and a peak of {peak:.4g}/width at width {value:g}, expected 1 and 1/width: "
                "h(x, width) is the derivative of the spike with respect to u, scaled by its equivalent width",
                hint="Divide h by its area, and let width be area over peak.",
            )
