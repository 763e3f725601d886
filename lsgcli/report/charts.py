"""Line charts: scales, axes, lines with bands and markers, and legends."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeGuard

from lsgcli.report.drawing import ADVANCE, Drawing, Mark, Point, Style, area, dot, group, line, shortened, text

WIDTH, HEIGHT = 420, 250
ROW = 18  # of a legend, pixels
LABEL = 11  # height of a number beside a line, pixels
MARKERS = 8  # on a line, at most
Legend = Sequence[tuple[str, Style]]


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
        known = [v for v in values if v is not None and drawable(v, log)]
        if log:
            return cls(*_decade_steps(min(known, default=0.1), max(known, default=1.0)), log=True)
        low, high = min(known, default=0.0), max(known, default=1.0)
        if zero and low >= 0:
            return cls(0.0, 1.05 * high or 1.0)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - margin, high + margin)

    @classmethod
    def counting(cls, n: int) -> "Scale":
        """A scale for 0 .. n - 1, with a single point in the middle."""
        return cls(0, n - 1) if n > 1 else cls(-1, 1)

    def share(self, value: float) -> float:
        """Position of a value, 0 .. 1 within the scale."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        return ((math.log10(value) if self.log else value) - low) / (high - low)

    def ticks(self, most: int = 7) -> list[float]:
        """Round tick values."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        raw = (self.high - self.low) / (most - 1)
        unit = 10 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


@dataclass(frozen=True)
class Line:
    """Values over 0, 1, 2, ...; None is a gap.

    Attributes:
        std: standard deviations, drawn as a band.
        tip: tooltip on a page. Default: the name.
        layer: number of the layer shown, which is also written at the end of the line.
    """

    name: str
    values: Sequence[float | None]
    style: Style
    std: Sequence[float] = ()
    tip: str = ""
    layer: int | None = None

    @property
    def has_band(self) -> bool:
        """Whether a band is drawn."""
        return len(self.std) > 1 and any(self.std)

    def reach(self) -> Iterator[float | None]:
        """The values, and the edges of the band."""
        yield from self.values
        for value, std in zip(self.values, self.std, strict=False):
            if value is not None:
                yield from (value - std, value + std)


@dataclass(frozen=True)
class Axes:
    """Axes of a chart, which map values to pixels, with y upwards."""

    width: float
    height: float
    x: Scale
    y: Scale
    left: float = 56
    right: float = 12
    top: float = 26
    bottom: float = 38

    def at(self, x: float, y: float) -> Point:
        """Pixel position of a value."""
        return (
            self.left + self.x.share(x) * (self.width - self.left - self.right),
            self.height - self.bottom - self.y.share(y) * (self.height - self.top - self.bottom),
        )

    def frame(self, x_ticks: Iterable[float], x_label: str, y_label: str, x_step: float = 0.0) -> list[Mark]:
        """Grid, axis labels, and tick labels, which on the x axis differ from the positions of the ticks by ``x_step``."""
        marks = []
        ticks = self.y.ticks()
        for tick, number in zip(ticks, numbers(ticks), strict=True):
            _, y = self.at(self.x.low, tick)
            marks.append(line([(self.left, y), (self.width - self.right, y)], "grid"))
            marks.append(text((self.left - 6, y + 4), number, anchor="end"))
        floor = self.height - self.bottom
        marks += [text((self.at(t, self.y.low)[0], floor + 16), f"{t + x_step:g}", anchor="middle") for t in x_ticks]
        marks.append(text(((self.left + self.width - self.right) / 2, self.height - 5), x_label, anchor="middle"))
        return [*marks, text((2, self.top - 13), y_label, "ink")] if y_label else marks

    def line(
        self, points: Sequence[tuple[float, float | None]], style: Style, *, lone: bool = True, width: float = 2
    ) -> list[Mark]:
        """A line through points, with gaps for missing values; with ``lone``, isolated points are drawn as dots."""
        runs: list[list[Point]] = [[]]
        for x, value in points:
            if value is not None and drawable(value, self.y.log):
                runs[-1].append(self.at(x, value))
            else:
                runs.append([])
        dots = [dot(run[0], style.colour, style.shape, 3) for run in runs if len(run) == 1 and lone]
        return [line(run, style.colour, width, style.dash) for run in runs if len(run) > 1] + dots

    def lines(self, lines: Sequence[Line], x_label: str, y_label: str, first: int) -> list[Mark]:
        """A frame with lines, their bands, markers and numbers; ``first`` is the number of the first point."""
        marks = self.frame(whole_ticks(max(len(one.values) for one in lines)), x_label, y_label, first)
        for one in lines:
            if one.has_band:
                band = [
                    (x, value, std) for x, (value, std) in enumerate(zip(one.values, one.std, strict=True)) if value is not None
                ]
                upper, lower = ([self.at(x, value + sign * std) for x, value, std in band] for sign in (1, -1))
                marks.append(area([*upper, *reversed(lower)], one.style.colour, 0.14))
                marks += [line(edge, one.style.colour, 0.6, one.style.dash) for edge in (upper, lower)]
        for index, one in enumerate(lines):
            points = list(enumerate(one.values))
            own = self.line(points, one.style)
            if one.style.shape:
                step = math.ceil(len(points) / MARKERS)
                marked = points[index % step :: step]  # staggered, so that markers of close lines stay apart
                own += [dot(self.at(x, v), one.style.colour, one.style.shape) for x, v in marked if drawable(v, self.y.log)]
            if own:
                marks.append(group(own, one.tip or one.name, one.layer))
        return marks + self._numbers([one for one in lines if one.layer is not None])

    def _numbers(self, lines: Sequence[Line]) -> list[Mark]:
        """Numbers of layers beside the ends of lines, where they do not touch; those of the first and last line come first."""
        marks = []
        taken: list[float] = []
        for one in [*lines[:1], *lines[:0:-1]]:
            end = one.values[-1] if one.values else None
            if end is None or not self.y.low <= end <= self.y.high:
                continue
            y = self.at(self.x.high, end)[1]
            if all(abs(y - other) >= LABEL for other in taken):
                taken.append(y)
                marks.append(text((self.width - 26, y + 4), f"{one.layer}", "ink", 11))
        return marks


def over_runs(name: str, style: Style, runs: Sequence[Sequence[float | None]]) -> Line:
    """A line of the mean over the runs that have a value, with their sample standard deviation as a band."""
    means, deviations = [], []
    for values in zip_longest(*runs):  # some runs may have fewer epochs
        known = [value for value in values if value is not None]
        means.append(statistics.fmean(known) if known else None)
        deviations.append(statistics.stdev(known) if len(known) > 1 else 0.0)
    return Line(name, means, style, deviations)


def line_drawing(lines: Sequence[Line], x_label: str, y_label: str, x_first: int, y: Scale) -> Drawing | None:
    """The chart as a drawing without legend; None if there are no values. Without ``y_label``, its heading tells what it shows."""
    if not any(drawable(value, y.log) for one in lines for value in one.values):
        return None
    numbered = any(one.layer is not None for one in lines)
    n = max(len(one.values) for one in lines)
    axes = Axes(WIDTH, HEIGHT, Scale.counting(n), y, right=30 if numbered else 12, top=26 if y_label else 10)
    return Drawing(WIDTH, HEIGHT, axes.lines(lines, x_label, y_label, x_first), f"{y_label or lines[0].name} by {x_label}")


def drawn_legend(entries: Legend, width: float) -> tuple[list[Mark], float]:
    """Legend as part of a drawing, and its height."""
    marks = []
    x, y = 0.0, 0.0
    for name, style in entries if len(entries) > 1 else ():  # one line needs no legend
        words = shortened(name, width - 32)
        room = 32 + ADVANCE * 12 * len(words) + 18
        if x > 0 and x + room > width:
            x, y = 0.0, y + ROW
        marks += [group(swatch(style), at=(x, y + 3)), text((x + 32, y + 13), words, "ink")]
        x += room
    return marks, y + ROW if marks else 0.0


def swatch(style: Style) -> list[Mark]:
    """A line sample with its marker, 26 x 12 pixels."""
    marks = [line([(1, 6), (25, 6)], style.colour, 2.5, style.dash)]
    return marks + ([dot((13, 6), style.colour, style.shape)] if style.shape else [])


def numbers(ticks: Sequence[float]) -> list[str]:
    """Ticks as text, with three significant digits, or up to six if required."""
    for digits in range(3, 7):
        texts = [f"{tick:.{digits}g}" for tick in ticks]
        if all(math.isclose(float(shown), tick, rel_tol=1e-9, abs_tol=1e-15) for shown, tick in zip(texts, ticks, strict=True)):
            break
    return texts


def whole_ticks(n: int, most: int = 10) -> list[int]:
    """At most ``most`` of 0 .. n - 1, evenly spaced."""
    return list(range(0, n, max(1, math.ceil(n / most))))


def _decade_steps(low: float, high: float) -> tuple[float, float]:
    """The nearest of 1, 2 and 5 times a power of ten, below and above, apart in any case."""
    steps = [m * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2) for m in (1, 2, 5)]
    below = max(step for step in steps if step <= low * (1 + 1e-9) or step == steps[0])
    above = min(step for step in steps if step >= high * (1 - 1e-9) or step == steps[-1])
    return (below, above) if above > below else (below, 2 * below)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**e for e in exponents for m in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]
