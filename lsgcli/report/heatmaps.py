"""Heat maps with a row per layer, and a column per timestep."""

from collections.abc import Sequence

from lsgcli.analysis.measures import MEASURES
from lsgcli.registry import register
from lsgcli.report.colours import DIVERGING, SEQUENTIAL, ink_on, ramp
from lsgcli.report.drawing import ADVANCE, Drawing, Mark, box, group, line, shortened, text
from lsgcli.report.figures import Flow, Panel, View, picture

NAMES, HEAD, ROW = 110, 48, 22  # pixels: maximum width of names, height of colour bar and timestep numbers, height of a row
WIDE, MANY = 26, 16  # pixels of a cell with a number, and maximum number of columns for cells with numbers
SIZE = 11  # pixels of text
STEPS = ("coverage", "firing_rate", "u_mean", "u_std", "grad_zero", "rho")
SIGNED = ("u_mean", "rho")  # with a colour scale centred at 0
Rows = list[list[float | None]]


@register("picture", "steps")
@picture(
    "Layer by timestep",
    shows="One measure per layer (rows, from the input) and timestep (columns), averaged over neurons and samples; all checkpoints have "
    "the same colour scale.",
    hides="Differences between neurons: an average of 0.5 may be all neurons half of the time, or half of the neurons all of the time.",
)
def steps(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """A heat map per checkpoint for each of several measures."""
    found = []
    for key in STEPS:
        values = [[_row(layer, key, flow["T"]) for layer in flow["layers"]] for flow in flows]
        known = [v for rows in values for row in rows for v in row if v is not None]
        if not known:
            continue
        low, high = (-max(map(abs, known)), max(map(abs, known))) if key in SIGNED else (min(known), max(known))
        measure, colours = MEASURES[key], DIVERGING if key in SIGNED else SEQUENTIAL
        heading = measure.title, measure.title if measure.unit == "-" else measure.unit
        panels = [
            Panel(
                _draw(heading, _names(flow["layers"]), rows, (low, high), f"timestep, {label}", colours=colours),
                label if len(flows) > 1 else "",
            )
            for flow, rows, label in zip(flows, values, labels, strict=True)
        ]
        found.append(View(measure.title, panels, len(flows), natural=True))
    return found


def _names(layers: Sequence[Flow]) -> list[str]:
    return [shortened(f"{number} {layer['name']}", NAMES, SIZE) for number, layer in enumerate(layers, 1)]


def _row(layer: Flow, key: str, T: int) -> list[float | None]:
    """A value per timestep; None where the record has none."""
    values = list((layer.get("per_step") or {}).get(key) or [])
    return (values + [None] * T)[:T]


def _draw(
    heading: tuple[str, str],
    names: Sequence[str],
    rows: Rows,
    span: tuple[float, float],
    over: str,
    colours: Sequence[str] = SEQUENTIAL,
) -> Drawing:
    """A heat map.

    Args:
        heading: title, and unit.
        over: what the columns are.
    """
    T = len(rows[0])
    left = 10 + ADVANCE * SIZE * max(map(len, names))
    width = WIDE if T <= MANY else max(8, 400 // T)
    marks = _scale(colours, span, heading[1])
    every = -(-20 // width)
    marks += [text((left + (t + 0.5) * width, HEAD - 5), str(t + 1), size=SIZE, anchor="middle") for t in range(0, T, every)]
    for number, (name, values) in enumerate(zip(names, rows, strict=True), 1):
        row = [text((left - 6, ROW - 7), name, "ink", SIZE, "end")]
        for t, value in enumerate(values):
            shown = "no value" if value is None else f"{value:.3g}"
            title = "" if width == WIDE else f"{name}, t = {t + 1}: {shown}"
            row.append(group(_cell(value, width, span, colours), title, at=(left + t * width, 0)))
        marks.append(group(row, layer=number, at=(0, HEAD + (number - 1) * ROW)))
    description = f"{heading[0]} by layer and {over}: {span[0]:.3g} to {span[1]:.3g}"
    return Drawing(max(left + T * width + 4, 240), HEAD + len(rows) * ROW + 4, marks, description)


def _cell(value: float | None, width: float, span: tuple[float, float], colours: Sequence[str]) -> list[Mark]:
    """A coloured cell, with its number if it fits: two decimals, without a leading 0."""
    if value is None:
        return [line([(width * 0.35, ROW / 2), (width * 0.65, ROW / 2)], "soft")]
    colour = ramp(colours, (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5)
    ground = box((0, 0), width - 1, ROW - 1, colour)
    if width < WIDE:
        return [ground]
    words = f"{value:.2f}"
    words = words.replace("0.", ".", 1) if abs(float(words)) < 1 else f"{value:.1f}"
    return [ground, text(((width - 1) / 2, ROW - 7), words, ink_on(colour), SIZE, "middle")]


def _scale(colours: Sequence[str], span: tuple[float, float], unit: str) -> list[Mark]:
    """A colour bar with the values at its ends, and the unit."""
    low, high = (f"{value:.2g}" for value in span)
    left = 8 + 7 * len(low)
    bar = [box((left + k * 4, 16), 4.2, 10, ramp(colours, k / 23)) for k in range(24)]
    return [text((2, 10), unit, size=SIZE), text((2, 25), low, size=SIZE), *bar, text((left + 102, 25), high, size=SIZE)]
