"""Scales and axes of charts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lsgcli.report.colours import Style
from lsgcli.report.drawing import Mark, Point, dot, line, text


def drawable(value: float | None, log: bool = False) -> bool:
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
class Axes:
    """Axes of a chart, which map values to pixels, with y upwards."""

    width: float
    height: float
    x: Scale
    y: Scale
    left: float = 50
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
        """Grid, tick labels and axis labels.

        Args:
            x_ticks: tick positions on the x axis.
            x_step: offset of the tick labels.
        """
        marks: list[Mark] = []
        ticks = self.y.ticks()
        for tick, number in zip(ticks, numbers(ticks), strict=True):
            _, y = self.at(self.x.low, tick)
            marks.append(line([(self.left, y), (self.width - self.right, y)], "grid"))
            marks.append(text((self.left - 6, y + 4), number, anchor="end"))
        floor = self.height - self.bottom
        marks += [text((self.at(t, self.y.low)[0], floor + 16), f"{t + x_step:g}", anchor="middle") for t in x_ticks]
        marks.append(text(((self.left + self.width - self.right) / 2, self.height - 5), x_label, anchor="middle"))
        return [*marks, text((2, 13), y_label, "ink")]

    def line(self, points: Sequence[tuple[float, float | None]], style: Style, *, lone: bool = True) -> list[Mark]:
        """A line through points, with gaps for missing values; with ``lone``, isolated points are drawn as dots."""
        runs: list[list[Point]] = [[]]
        for x, value in points:
            if value is not None and drawable(value, self.y.log):
                runs[-1].append(self.at(x, value))
            else:
                runs.append([])
        dots = [dot(run[0], style.colour, style.shape, 3) for run in runs if len(run) == 1 and lone]
        return [line(run, style.colour, 2, style.dash) for run in runs if len(run) > 1] + dots


def numbers(ticks: Sequence[float]) -> list[str]:
    """Ticks as text, with three significant digits, or up to six if required."""
    texts = [[f"{tick:.{digits}g}" for tick in ticks] for digits in range(3, 7)]
    exact = (found for found in texts if all(map(_same, map(float, found), ticks)))
    return next(exact, texts[-1])


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-15)


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
