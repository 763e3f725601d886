"""Line charts: lines with bands and points over timesteps, epochs or layers."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeGuard

from lsgcli.report.drawing import Spec, Style, template

Legend = Mapping[str, Style]
Values = Sequence[float | None]  # None is a gap
Row = Mapping[str, Any]


def drawable(value: float | None, log: bool = False) -> TypeGuard[float]:
    """Whether a value can be shown on a scale."""
    return value is not None and math.isfinite(value) and (value > 0 or not log)


def y_scale(values: Iterable[float | None], log: bool = False, zero: bool = False) -> Spec:
    """A scale for the range of all finite values, including 0 if ``zero``; if it is logarithmic, from a power of 10 to another."""
    known = [value for value in values if drawable(value, log)]
    low = min(known, default=0.1)
    high = max(known, default=1.0)
    if log:
        exponent = math.floor(math.log10(low))
        return {"type": "log", "domain": [10.0**exponent, 10.0 ** max(exponent + 1, math.ceil(math.log10(high)))]}
    if zero:
        low = min(low, 0)
        high = high or 1.0
    return {"domain": [low, high], "nice": True, "zero": False}


def over_runs(runs: Sequence[Values]) -> tuple[list[float | None], list[float]]:
    """Means over the runs that have a value, and their sample standard deviations, 0 of a single one."""
    means = []
    deviations = []
    for values in zip_longest(*runs):  # some runs may have fewer epochs
        known = [value for value in values if value is not None]
        means.append(statistics.fmean(known) if known else None)
        deviations.append(statistics.stdev(known) if len(known) > 1 else 0.0)
    return means, deviations


def line_rows(name: str, values: Values, x_label: str, log: bool = False, std: Sequence[float] = ()) -> list[Spec]:
    """Rows of a line through values over 1, 2, 3, ..., with gaps where they cannot be drawn, and a band of ``std`` around it."""
    rows: list[Spec] = []
    for x, value in enumerate(values, 1):
        row: Spec = {"name": name, "line": name, "x": x, "y": None}
        if drawable(value, log):
            row |= {"y": value, "at": value, "tip": f"{name}, {x_label} {x}: {value:.4g}"}
            if any(std):
                row |= {"low": value - std[x - 1], "high": value + std[x - 1]}
        rows.append(row)
    return rows


def line_chart(
    description: str,
    rows: Sequence[Row],
    legend: Legend,
    x_label: str,
    scale: Spec,
    window: Sequence[Row] = (),
    thresholds: Sequence[Row] = (),
) -> Spec:
    """A line for each name, and points.

    Args:
        rows: fields ``name``; ``x`` and ``y`` of the line, which is called ``line``; ``at``, of a point, with its ``tip`` when pointed
            at, its area ``size``, and whether it has a ``ring``, as what is not ok; of a band, ``low`` and ``high``.
        legend: styles by name.
        scale: of the y axis.
        window: an area behind the lines, from ``low`` to ``high`` over ``x``.
        thresholds: horizontal lines, at ``y``.
    """
    chart = template("lines", rows=rows, window=window, thresholds=thresholds)
    chart["description"] = description
    chart["encoding"]["x"]["title"] = x_label
    chart["encoding"]["y"]["scale"] = scale
    return styled(chart, legend)


def styled(chart: Spec, legend: Legend) -> Spec:
    """The chart, with these colours and dashes of the values of its field ``name``."""
    for channel, values in zip(("color", "strokeDash"), zip(*legend.values(), strict=True), strict=True):
        chart["encoding"][channel]["scale"] = {"domain": list(legend), "range": values}
    return chart


def path(centres: Iterable[tuple[float, float]]) -> str:
    """Many dots as one path, in pixels, which is a tenth of the size of a mark for each."""
    return "".join(f"M{x:.4g},{y:.4g}h.01" for x, y in centres)
