"""Small line charts as inline SVG, in the colours of the page around them."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
# Distinct under the common forms of colour blindness, on light and on dark ground.
COLOURS = ("#3b82c4", "#d97706", "#2f9e6e", "#b4559b", "#7c6ad6", "#c2413b", "#8a7a2f", "#4aa3a8")


def line_chart(
    lines: Mapping[str, Sequence[float | None]], *, x_label: str, y_label: str, x_first: int = 0, log: bool = False
) -> str:
    """An SVG of one line per name over 0, 1, 2, ...; a value of None (or, on a log scale, of 0) leaves a gap.

    Args:
        lines: values by name.
        x_label, y_label: what the axes are.
        x_first: number of the first point.
        log: logarithmic y axis.
    """
    known = [v for values in lines.values() for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return "<p>Nothing to draw.</p>"
    low, high = _range(min(known), max(known), log)
    n = max(len(values) for values in lines.values())

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index / (n - 1) if n > 1 else 0.5)

    def y(value: float) -> float:
        share = (
            (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
            if log
            else (value - low) / (high - low)
        )
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} by {escape(x_label)}">']
    for tick in _ticks(low, high, log):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    step = max(1, math.ceil(n / 10))
    parts += [
        f'<text class="tick" x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{i + x_first}</text>'
        for i in range(0, n, step)
    ]
    parts.append(
        f'<text class="tick" x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for (name, values), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        parts += _path(name, values, colour, x, y, log)
    parts.append("</svg>")
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(lines, _colours(len(lines)), strict=True)
    )
    return "".join(parts) + f'<p class="legend">{legend}</p>'


def _path(name: str, values: Sequence[float | None], colour: str, x, y, log: bool) -> list[str]:  # type: ignore[no-untyped-def]
    """Line segments between gaps, and a dot where a point stands alone."""
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value) or (log and value <= 0):
            runs.append([])
        else:
            runs[-1].append(f"{x(index):.1f},{y(value):.1f}")
    drawn = []
    for points in runs:
        if len(points) > 1:
            drawn.append(
                f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"><title>{escape(name)}</title></polyline>'
            )
        elif points:
            cx, cy = points[0].split(",")
            drawn.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"><title>{escape(name)}</title></circle>')
    return drawn


def _colours(n: int) -> list[str]:
    """Distinct colours for a few lines; for many, one hue from pale (the first) to deep, since their order is what matters."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [f"hsl({210 + 110 * i / (n - 1):.0f} 60% 52%)" for i in range(n)]


def _range(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high) + 1e-9) if high > low else low * 10
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        first, last = round(math.log10(low)), round(math.log10(high))
        return [10.0**e for e in range(first, last + 1, max(1, (last - first) // 5))]
    raw = (high - low) / 6
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
