"""Heat maps with a row per layer, and a column per timestep."""

from collections.abc import Sequence

from lsgcli.analysis.measures import MEASURES
from lsgcli.registry import register
from lsgcli.report.drawing import DIVERGING, HEAD, ROW, SEQUENTIAL, SIZE, Cell, Drawing, Mark, box, grid, ramp, text
from lsgcli.report.figures import Flow, Panel, View, picture

WIDE, MANY = 26, 16  # pixels of a cell with a number, and maximum number of columns for cells with numbers
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
        panels = []
        for flow, rows, label in zip(flows, values, labels, strict=True):
            names = [f"{number} {layer['name']}" for number, layer in enumerate(flow["layers"], 1)]
            description = f"{measure.title} by layer and timestep, {label}: {low:.3g} to {high:.3g}"
            drawing = _draw(
                names, rows, (low, high), colours, measure.title if measure.unit == "-" else measure.unit, description
            )
            panels.append(Panel(drawing, label if len(flows) > 1 else ""))
        found.append(View(measure.title, panels, len(flows), natural=True))
    return found


def _row(layer: Flow, key: str, T: int) -> list[float | None]:
    """A value per timestep; None where the record has none."""
    values = list((layer.get("per_step") or {}).get(key) or [])
    return (values + [None] * T)[:T]


def _draw(
    names: Sequence[str], rows: Rows, span: tuple[float, float], colours: Sequence[str], unit: str, description: str
) -> Drawing:
    """A heat map below its colour bar."""
    T = len(rows[0])
    width = WIDE if T <= MANY else max(8, 400 // T)
    every = -(-20 // width)
    columns = ["" if t % every else str(t + 1) for t in range(T)]
    cells = []
    for name, values in zip(names, rows, strict=True):
        cells.append([_cell(value, width, span, colours, f"{name}, t = {t + 1}") for t, value in enumerate(values)])
    marks, left = grid(names, columns, cells, width, layers=True)
    return Drawing(
        max(left + T * width + 4, 240), HEAD + len(rows) * ROW + 4, [*_scale(colours, span, unit), *marks], description
    )


def _cell(value: float | None, width: float, span: tuple[float, float], colours: Sequence[str], where: str) -> Cell:
    """A cell with its number if it fits: two decimals, without a leading 0."""
    if value is None:
        return Cell("shade", "", f"{where}: no value")
    colour = ramp(colours, (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5)
    if width < WIDE:
        return Cell(colour, "", f"{where}: {value:.3g}")
    words = f"{value:.2f}"
    return Cell(colour, words.replace("0.", ".", 1) if abs(float(words)) < 1 else f"{value:.1f}")


def _scale(colours: Sequence[str], span: tuple[float, float], unit: str) -> list[Mark]:
    """A colour bar with the values at its ends, and the unit."""
    low, high = (f"{value:.2g}" for value in span)
    left = 8 + 7 * len(low)
    bar = [box((left + k * 4, 16), 4.2, 10, ramp(colours, k / 23)) for k in range(24)]
    return [text((2, 10), unit, size=SIZE), text((2, 25), low, size=SIZE), *bar, text((left + 102, 25), high, size=SIZE)]
