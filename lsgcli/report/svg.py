"""Line charts, and what their lines are."""

from collections.abc import Mapping, Sequence
from html import escape

from lsgcli.report.axes import SIZE, Axes, Scale, whole_ticks
from lsgcli.report.colours import COLOURS, PAGE, Style, ordered
from lsgcli.report.drawing import Drawing
from lsgcli.report.marks import ADVANCE, Dot, Group, Line, Mark, Text, shortened

__all__ = ["COLOURS", "drawn_legend", "legend", "line_chart", "line_drawing"]

WIDTH, HEIGHT = 420, 250
ROW = 18  # of a legend, pixels
Legend = Sequence[tuple[str, Style]]


def line_chart(
    lines: Mapping[str, Sequence[float | None]], *, x_label: str, y_label: str, x_first: int = 0, log: bool = False
) -> str:
    """An SVG of one line per name over 0, 1, 2, ..., and its legend; a value of None (or, on a log scale, of 0) leaves a gap.

    Args:
        lines: values by name.
        x_label, y_label: what the axes are.
        x_first: number of the first point.
        log: logarithmic y axis.
    """
    styles = _styles(len(lines))
    drawing = line_drawing(lines, styles, x_label=x_label, y_label=y_label, x_first=x_first, log=log)
    if drawing is None:
        return "<p>Nothing to draw.</p>"
    return drawing.element() + legend(list(zip(lines, styles, strict=True)))


def line_drawing(
    lines: Mapping[str, Sequence[float | None]],
    styles: Sequence[Style],
    *,
    x_label: str,
    y_label: str,
    x_first: int = 0,
    log: bool = False,
    y: Scale | None = None,
    numbered: bool = False,
) -> Drawing | None:
    """The same as a drawing; None where there is nothing to draw.

    Args:
        styles: of the lines.
        y: scale of the values, if it is not their own.
        numbered: lines are layers, 1, 2, 3, ...: their numbers stand at their ends.
    """
    y = y or Scale.over((v for values in lines.values() for v in values), log)
    n = max((len(values) for values in lines.values()), default=0)
    axes = Axes(WIDTH, HEIGHT, Scale(0, n - 1) if n > 1 else Scale(-1, 1), y, right=30 if numbered else 12)
    drawn = [
        Group(own, name, number if numbered else None)
        for number, ((name, values), style) in enumerate(zip(lines.items(), styles, strict=True), 1)
        if (own := axes.line(list(enumerate(values)), style))
    ]
    if not drawn:
        return None
    marks: list[Mark] = [*axes.frame(whole_ticks(n), x_label, y_label, x_first), *drawn]
    if numbered:
        marks += _numbers(axes, [values[-1] if values else None for values in lines.values()], styles)
    return Drawing(WIDTH, HEIGHT, marks, f"{y_label} by {x_label}")


def legend(entries: Legend) -> str:
    """What the lines of a chart are, for a page."""
    return '<p class="legend">' + "".join(f"<span>{_swatch(s)}{escape(name)}</span>" for name, s in entries) + "</p>"


def swatch(style: Style) -> list[Mark]:
    """A piece of a line with its marker, 26 x 12 pixels."""
    marks: list[Mark] = [Line([(1, 6), (25, 6)], style.colour, 2.5, style.dash)]
    return marks + ([Dot(13, 6, style.colour, style.shape)] if style.shape else [])


def drawn_legend(entries: Legend, width: float) -> tuple[list[Mark], float]:
    """What the lines of a drawing are, as a part of it: as many rows of swatches and names as they need, and their height."""
    marks: list[Mark] = []
    x, y = 0.0, 0.0
    for name, style in entries:
        text = shortened(name, width - 32)
        room = 32 + ADVANCE * SIZE * len(text) + 18
        if x > 0 and x + room > width:
            x, y = 0.0, y + ROW
        marks += [Group(swatch(style), dx=x, dy=y + 3), Text(x + 32, y + 13, text, "ink", SIZE)]
        x += room
    return marks, y + ROW if marks else 0.0


def _swatch(style: Style) -> str:
    return f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">{"".join(m.svg(PAGE) for m in swatch(style))}</svg>'


def _styles(n: int) -> list[Style]:
    """Distinct colours for a few lines; for many, a ramp in their order, which is what matters."""
    return [Style(colour) for colour in (COLOURS[:n] if n <= len(COLOURS) else ordered(n))]


def _numbers(axes: Axes, ends: Sequence[float | None], styles: Sequence[Style]) -> list[Mark]:
    """Numbers at the lines' ends, as many as there is room for; the first and the last line before others."""
    order = sorted(range(len(ends)), key=lambda i: (i not in (0, len(ends) - 1), -i))
    marks: list[Mark] = []
    taken: list[float] = []
    for index in order:
        value = ends[index]
        if value is None or not axes.y.low <= value <= axes.y.high:
            continue
        _, y = axes.at(axes.x.high, value)
        if all(abs(y - other) >= 11 for other in taken):
            taken.append(y)
            marks.append(Text(axes.width - 26, y + 4, str(index + 1), styles[index].colour, 11))
    return marks
