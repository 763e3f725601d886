"""Line charts, and legends of their lines."""

from collections.abc import Mapping, Sequence
from html import escape

from lsgcli.report.axes import Axes, Scale, whole_ticks
from lsgcli.report.colours import COLOURS, Style, ordered
from lsgcli.report.drawing import ADVANCE, Drawing, Mark, dot, group, line, shortened, text

WIDTH, HEIGHT = 420, 250
ROW = 18  # of a legend, pixels
Legend = Sequence[tuple[str, Style]]
Lines = Mapping[str, Sequence[float | None]]


def line_chart(lines: Lines, *, x_label: str, y_label: str, x_first: int = 0, log: bool = False) -> str:
    """An SVG element of one line per name over 0, 1, 2, ..., and its legend.

    Args:
        lines: values by name; None (or, on a log scale, 0) is a gap.
        x_label, y_label: names of the axes.
        x_first: number of the first point.
        log: logarithmic y axis.
    """
    n = len(lines)
    looks = [Style(colour) for colour in (COLOURS[:n] if n <= len(COLOURS) else ordered(n))]
    drawing = line_drawing(lines, looks, x_label=x_label, y_label=y_label, x_first=x_first, log=log)
    return drawing.element() + legend(list(zip(lines, looks, strict=True))) if drawing else "<p>Nothing to draw.</p>"


def line_drawing(
    lines: Lines,
    looks: Sequence[Style],
    *,
    x_label: str,
    y_label: str,
    x_first: int = 0,
    log: bool = False,
    y: Scale | None = None,
    numbered: bool = False,
) -> Drawing | None:
    """The chart as a drawing without legend; None if there are no values.

    Args:
        looks: style of each line.
        y: scale of the values. Default: their range.
        numbered: label lines with 1, 2, 3, ... at their ends.
    """
    y = y or Scale.over((v for values in lines.values() for v in values), log)
    n = max((len(values) for values in lines.values()), default=0)
    axes = Axes(WIDTH, HEIGHT, Scale(0, n - 1) if n > 1 else Scale(-1, 1), y, right=30 if numbered else 12)
    drawn = [
        group(own, name, number if numbered else None)
        for number, ((name, values), look) in enumerate(zip(lines.items(), looks, strict=True), 1)
        if (own := axes.line(list(enumerate(values)), look))
    ]
    if not drawn:
        return None
    marks = [*axes.frame(whole_ticks(n), x_label, y_label, x_first), *drawn]
    if numbered:
        marks += _numbers(axes, [values[-1] if values else None for values in lines.values()], looks)
    return Drawing(WIDTH, HEIGHT, marks, f"{y_label} by {x_label}")


def legend(entries: Legend) -> str:
    """Legend of a chart, for a page."""
    swatches = (f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">{"".join(_swatch(s))}</svg>' for _, s in entries)
    spans = (f"<span>{swatch}{escape(name)}</span>" for swatch, (name, _) in zip(swatches, entries, strict=True))
    return f'<p class="legend">{"".join(spans)}</p>'


def drawn_legend(entries: Legend, width: float) -> tuple[list[Mark], float]:
    """Legend as part of a drawing, and its height."""
    marks: list[Mark] = []
    x, y = 0.0, 0.0
    for name, style in entries:
        words = shortened(name, width - 32)
        room = 32 + ADVANCE * 12 * len(words) + 18
        if x > 0 and x + room > width:
            x, y = 0.0, y + ROW
        marks += [group(_swatch(style), at=(x, y + 3)), text((x + 32, y + 13), words, "ink")]
        x += room
    return marks, y + ROW if marks else 0.0


def _swatch(style: Style) -> list[Mark]:
    """A line sample with its marker, 26 x 12 pixels."""
    marks = [line([(1, 6), (25, 6)], style.colour, 2.5, style.dash)]
    return marks + ([dot((13, 6), style.colour, style.shape)] if style.shape else [])


def _numbers(axes: Axes, ends: Sequence[float | None], looks: Sequence[Style]) -> list[Mark]:
    """Numbers at the ends of lines, as many as fit, with priority for the first and last line."""
    marks: list[Mark] = []
    taken: list[float] = []
    for index in sorted(range(len(ends)), key=lambda i: (i not in (0, len(ends) - 1), -i)):
        value = ends[index]
        if value is None or not axes.y.low <= value <= axes.y.high:
            continue
        _, y = axes.at(axes.x.high, value)
        if all(abs(y - other) >= 11 for other in taken):
            taken.append(y)
            marks.append(text((axes.width - 26, y + 4), str(index + 1), looks[index].colour, 11))
    return marks
