"""Estimate thresholds and surrogates from a training: open this file to change how a width or v_th of a script's neurons is found.

The function that fires is not called for it. A threshold lies between the potentials that fire and those that do not. The surrogate h is known where
gradients have passed: dL/dx = h(x) dL/do.
"""

import math
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]
FLAT = 0.9  # of the largest value: a surrogate that is as high at the farthest potentials
FEWEST = 8  # potentials with a known gradient


def roundest(low: float, high: float) -> float:
    """The number with the fewest digits from low to high."""
    if low <= 0 <= high:
        return 0.0
    middle = (low + high) / 2
    rounded = (float(f"{middle:.{digits}g}") for digits in range(1, 6))
    return next((number for number in rounded if low <= number <= high), middle)


def heights_by_distance(distance: Values, heights: Values) -> tuple[Values, Values]:
    """The known values of a surrogate, (n,) each, by their distance from the threshold on either side."""
    known = np.isfinite(heights)
    order = np.abs(distance[known]).argsort()
    return np.abs(distance[known])[order], heights[known][order]


def equivalent_width(distance: Values, heights: Values, near: float) -> float:
    """Area over peak of a surrogate.

    Args:
        distance, heights: as of :func:`heights_by_distance`.
        near: distance within which potentials must have come to the threshold for its peak to be known.

    Returns:
        NaN where it is unknown, or the gradient passes everywhere.
    """
    if len(distance) < FEWEST or distance[0] > near:
        return math.nan
    peak = float(heights.max())
    if peak <= 0:
        return 2 * float(distance[0]) if heights.min() == 0 else math.nan  # it is narrower than that
    last = float(heights[-FEWEST:].mean())
    if last > FLAT * peak:
        # A rectangle of area 1 is as wide as 1 / peak.
        return 1 / peak if 1 / peak > 2 * distance[-1] else math.nan
    side = float(np.trapezoid(heights, distance)) + float(heights[0] * distance[0])
    # Beyond the farthest potential, heights are taken to fall as those of an arc tangent, with the square of the distance.
    return 2 * (side + last * float(distance[-1])) / peak
