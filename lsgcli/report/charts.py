"""Line charts: scales, axes, lines with bands, and legends."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import TypeGuard

from lsgcli.report.drawing import ADVANCE, Drawing, Mark, Point, Style, area, dot, group, line, shortened, text

WIDTH = 420
HEIGHT = 250
ROW = 18  # of a legend, pixels
MOST = 7  # ticks of a y axis
ROOM = 1.6  # factor from the smallest and largest value to the ends of a logarithmic axis, which then has a tick of 1, 2 or 5
Legend = Sequence[tuple[str, Style]]
Values = Sequence[float | None]  # None is a gap


def drawable(value: float | None, log: bool = False) -> TypeGuard[float]:
    """Whether a value can be shown on a scale."""
    return value is not None and math.isfinite(value) and (value > 0 or not log)


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale from values to 0 (low) .. 1 (high)."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float | None], log: bool = False, zero: bool = False) -> "Scale":
        """A scale for the range of all finite values, including 0 if ``zero``."""
        known = [value for value in values if drawable(value, log)]
        low = min(known, default=0.1)
        high = max(known, default=1.0)
        if log:
            return cls(low / ROOM, high * ROOM, log)
        if zero and low >= 0:
            return cls(0.0, 1.05 * high or 1.0)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - margin, high + margin)

    def share(self, value: float) -> float:
        """Position of a value, 0 .. 1 within the scale."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values."""
        if not self.log:
            raw = (self.high - self.low) / (MOST - 1)
            unit = 10 ** math.floor(math.log10(raw))
            step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
            return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
        ticks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if self.low <= m * 10.0**e <= self.high]
        if len(ticks) > MOST:
            ticks = [10.0**e for e in exponents if self.low <= 10.0**e]
        return ticks[:: math.ceil(len(ticks) / MOST)]


@dataclass(frozen=True)
class Line:
    """Values over 1, 2, 3, ...; None is a gap.

    Attributes:
        std: standard deviations, drawn as a band.
        layer: number of the layer shown.
    """

    name: str
    values: Values
    style: Style
    std: Sequence[float] = ()
    layer: int | None = None


@dataclass(frozen=True)
class Axes:
    """Axes of a chart, which map values to pixels, with y upwards."""

    width: float
    height: float
    x: Scale
    y: Scale
    left: float = 56
    right: float = 12
    top: float = 10
    bottom: float = 38

    def at(self, x: float, y: float) -> Point:
        """Pixel position of a value."""
        return (
            self.left + self.x.share(x) * (self.width - self.left - self.right),
            self.height - self.bottom - self.y.share(y) * (self.height - self.top - self.bottom),
        )

    def frame(self, n: int, x_label: str) -> list[Mark]:
        """Grid, label of the x axis, and numbers at both axes; those of the x axis are some of 1 .. n."""
        marks = []
        for tick in self.y.ticks():
            left, y = self.at(self.x.low, tick)
            right, _ = self.at(self.x.high, tick)
            marks.append(line([(left, y), (right, y)], "grid"))
            marks.append(text((left - 6, y + 4), f"{tick:.6g}", anchor="end"))
        for k in range(1, n + 1, math.ceil(n / 10)):
            x, floor = self.at(k, self.y.low)
            marks.append(text((x, floor + 16), f"{k}", anchor="middle"))
        middle = (self.left + self.width - self.right) / 2
        return [*marks, text((middle, self.height - 5), x_label, anchor="middle")]

    def line(self, values: Values, style: Style, width: float = 2) -> list[Mark]:
        """A line through values over 1, 2, 3, ..., with gaps where there are none; isolated values are dots."""
        marks = []
        for shown, run in groupby(enumerate(values, 1), lambda point: drawable(point[1], self.y.log)):
            if shown:
                points = [self.at(x, y) for x, y in run if y is not None]
                marks.append(line(points, style.colour, width, style.dash) if points[1:] else dot(points[0], style.colour, 3))
        return marks


def over_runs(name: str, style: Style, runs: Sequence[Values]) -> Line:
    """A line of the mean over the runs that have a value, with their sample standard deviation as a band."""
    means = []
    deviations = []
    for values in zip_longest(*runs):  # some runs may have fewer epochs
        known = [value for value in values if value is not None]
        means.append(statistics.fmean(known) if known else None)
        deviations.append(statistics.stdev(known) if len(known) > 1 else 0.0)
    return Line(name, means, style, deviations)


def line_drawing(title: str, lines: Sequence[Line], x_label: str, y: Scale) -> Drawing | None:
    """The chart as a drawing without legend; None if there are no values."""
    if not any(drawable(value, y.log) for one in lines for value in one.values):
        return None
    n = max(len(one.values) for one in lines)
    axes = Axes(WIDTH, HEIGHT, Scale(0.5, n + 0.5), y)
    marks = axes.frame(n, x_label)
    for one in lines:
        if any(one.std):
            upper = []
            lower = []
            for x, (value, std) in enumerate(zip(one.values, one.std, strict=True), 1):
                if value is not None:
                    upper.append(axes.at(x, value + std))
                    lower.append(axes.at(x, value - std))
            marks.append(area([*upper, *reversed(lower)], one.style.colour, 0.14))
        marks.append(group(axes.line(one.values, one.style), one.name, one.layer))
    return Drawing(WIDTH, HEIGHT, marks, f"{title} by {x_label}")


def drawn_legend(entries: Legend, width: float) -> tuple[list[Mark], float]:
    """Legend as part of a drawing, in columns, and its height."""
    if len(entries) < 2:  # one line needs no legend
        return [], 0.0
    names = [shortened(name, width - 50) for name, _ in entries]
    room = 50 + ADVANCE * 12 * max(map(len, names))
    columns = max(1, int(width / room))
    marks = []
    for number, (name, (_, style)) in enumerate(zip(names, entries, strict=True)):
        row, column = divmod(number, columns)
        entry = [swatch(style), text((32, 10), name, "ink")]
        marks.append(group(entry, at=(column * room, row * ROW + 3)))
    return marks, ROW * math.ceil(len(entries) / columns)


def swatch(style: Style) -> Mark:
    """A line sample, 26 x 12 pixels."""
    return line([(1, 6), (25, 6)], style.colour, 2.5, style.dash)
