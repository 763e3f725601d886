"""Matrices of coloured cells: measures of layers by timestep, and confusion matrices with the pairs that are confused most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lsgcli.analysis.measures import MEASURES
from lsgcli.registry import register
from lsgcli.report.drawing import (
    ADVANCE,
    BLUE,
    DIVERGING,
    SEQUENTIAL,
    Drawing,
    Mark,
    bars,
    box,
    group,
    ink_on,
    ramp,
    shortened,
    text,
)
from lsgcli.report.figures import Flow, Panel, View, picture

NAMES, SIZE = 130, 11  # maximum width of names, and size of text, pixels
HEAD, ROW = 48, 22  # heights of what is above the rows, and of a row, pixels
WIDE, MANY = 26, 16  # pixels of a cell with a number, and maximum number of columns for cells with numbers
STEPS = ("coverage", "firing_rate", "u_mean", "u_std", "grad_zero", "rho")
SIGNED = ("u_mean", "rho")  # with a colour scale centred at 0
NAMED = 30  # classes up to which cells of a confusion matrix have names and counts
COUNTED = 34  # pixels of a cell with a count
SIDE = 600  # of a confusion matrix without names
LEVELS = 16  # colours of a confusion matrix without names
PAIRS = 10  # shown
Counts = Sequence[Sequence[int]]  # rows are labels, columns predictions
Values = Sequence[float | None]


class Cell(NamedTuple):
    """A cell: its colour, what it says, its tooltip, and its opacity."""

    colour: str
    words: str
    tip: str = ""
    opacity: float = 1.0


def grid(
    names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: float, *, layers: bool = False
) -> tuple[list[Mark], float]:
    """Rows of cells below the names of the columns and beside their own; returns the marks, and the left edge of the cells.

    Args:
        columns: names of the columns; an empty one is left out.
        width: of a cell, pixels.
        layers: whether the rows are layers, which a page highlights in all pictures.
    """
    names = [shortened(name, NAMES, SIZE) for name in names]
    left = 10 + ADVANCE * SIZE * max(map(len, ["label", *names]))
    marks = []
    for column, name in enumerate(columns):
        if name:
            marks.append(text((left + (column + 0.5) * width, HEAD - 5), name, "ink", SIZE, "middle"))
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        own = [text((left - 6, ROW - 7), name, "ink", SIZE, "end")]
        for column, cell in enumerate(row):
            drawn = [box((0, 0), width - 1, ROW - 1, cell.colour, cell.opacity)]
            if cell.words:
                ink = "strong" if cell.opacity < 1 else ink_on(cell.colour)
                drawn.append(text(((width - 1) / 2, ROW - 7), cell.words, ink, SIZE, "middle"))
            own.append(group(drawn, cell.tip, at=(left + column * width, 0)))
        marks.append(group(own, layer=number + 1 if layers else None, at=(0, HEAD + number * ROW)))
    return marks, left


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
        title, unit = MEASURES[key].title, MEASURES[key].unit
        values = [[_row(layer, key, flow["T"]) for layer in flow["layers"]] for flow in flows]
        known = [v for rows in values for row in rows for v in row if v is not None]
        if not known:
            continue
        scale = Colours(min(known), max(known), SEQUENTIAL)
        if key in SIGNED:
            largest = max(map(abs, known))
            scale = Colours(-largest, largest, DIVERGING)
        panels = []
        for flow, rows, label in zip(flows, values, labels, strict=True):
            names = [f"{number} {layer['name']}" for number, layer in enumerate(flow["layers"], 1)]
            description = f"{title} by layer and timestep, {label}: {scale.low:.3g} to {scale.high:.3g}"
            drawing = _heat_map(names, rows, scale, title if unit == "-" else unit, description)
            panels.append(Panel(drawing, label if len(flows) > 1 else ""))
        found.append(View(title, panels, len(flows), natural=True))
    return found


@dataclass(frozen=True)
class Colours:
    """Colours of numbers from ``low`` to ``high``."""

    low: float
    high: float
    ramp: Sequence[str]

    def of(self, value: float) -> str:
        """The colour of a number."""
        span = self.high - self.low
        return ramp(self.ramp, (value - self.low) / span if span > 0 else 0.5)


def _row(layer: Flow, key: str, T: int) -> Values:
    """A value per timestep; None where the record has none."""
    values = list((layer.get("per_step") or {}).get(key) or [])
    return (values + [None] * T)[:T]


def _heat_map(names: Sequence[str], rows: Sequence[Values], scale: Colours, unit: str, description: str) -> Drawing:
    """A heat map below its colour bar."""
    T = len(rows[0])
    width = WIDE if T <= MANY else max(8, 400 // T)
    every = -(-20 // width)
    columns = ["" if t % every else str(t + 1) for t in range(T)]
    cells = []
    for name, values in zip(names, rows, strict=True):
        cells.append([_cell(value, width, scale, f"{name}, t = {t}") for t, value in enumerate(values, 1)])
    marks, left = grid(names, columns, cells, width, layers=True)
    low, high = f"{scale.low:.2g}", f"{scale.high:.2g}"
    start = 8 + 7 * len(low)
    marks += [text((2, 10), unit, size=SIZE), text((2, 25), low, size=SIZE), text((start + 102, 25), high, size=SIZE)]
    marks += [box((start + k * 4, 16), 4.2, 10, ramp(scale.ramp, k / 23)) for k in range(24)]
    return Drawing(max(left + T * width + 4, 240), HEAD + len(rows) * ROW + 4, marks, description)


def _cell(value: float | None, width: float, scale: Colours, where: str) -> Cell:
    """A cell with its number if it fits: two decimals, without a leading 0."""
    if value is None:
        return Cell("shade", "", f"{where}: no value")
    if width < WIDE:
        return Cell(scale.of(value), "", f"{where}: {value:.3g}")
    words = f"{value:.2f}"
    return Cell(scale.of(value), words.replace("0.", ".", 1) if abs(float(words)) < 1 else f"{value:.1f}")


def confusion(matrix: Counts, classes: Sequence[str]) -> Drawing:
    """A confusion matrix, coloured by the fraction of each label's samples; cells without samples are empty.

    Args:
        matrix: (classes, classes) counts; rows are labels, columns predictions.
    """
    samples, right = sum(map(sum, matrix)), sum(row[k] for k, row in enumerate(matrix))
    label = f"Confusion matrix of {len(classes)} classes: {right} of {samples} samples on the diagonal"
    return _named(matrix, classes, label) if len(classes) <= NAMED else _dense(matrix, label)


def pairs(matrix: Counts, classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Label, prediction, count, and the label's number of samples, of the pairs that are confused most."""
    wrong = []
    for label, row in enumerate(matrix):
        for prediction, count in enumerate(row):
            if count and label != prediction:
                wrong.append((-count, label, prediction))
    return [(classes[i], classes[j], -count, sum(matrix[i])) for count, i, j in sorted(wrong)[:PAIRS]]


def _named(matrix: Counts, classes: Sequence[str], label: str) -> Drawing:
    longest = len(str(max(map(max, matrix))))
    width = max(COUNTED, round(ADVANCE * SIZE * longest) + 8)
    rows = []
    for name, counts in zip(classes, matrix, strict=True):
        row, total = [], sum(counts)
        for prediction, n in zip(classes, counts, strict=True):
            tip = f"label {name}, prediction {prediction}: {n} of {total}"
            row.append(Cell(BLUE, str(n), tip, _opacity(n / total)) if n else Cell("shade", "", tip))
        rows.append(row)
    marks, left = grid(classes, [shortened(name, width, SIZE) for name in classes], rows, width)
    marks.append(text((left - 6, HEAD - 5), "label", size=SIZE, anchor="end"))
    marks.append(text((left, HEAD - 20), "prediction", size=SIZE))
    return Drawing(left + len(classes) * width + 4, HEAD + len(classes) * ROW + 4, marks, label)


def _opacity(share: float) -> float:
    """From nearly transparent, so that a single sample differs from none, to opaque."""
    return 0.25 + 0.75 * share


def _dense(matrix: Counts, label: str) -> Drawing:
    """Cells without counts: one mark for each colour, because there may be a million cells."""
    left, size = 20, SIDE / len(matrix)
    levels: dict[int, list[tuple[float, float, float]]] = {}
    for i, row in enumerate(matrix):
        total = sum(row)
        for j, n in enumerate(row):
            if n:
                run = left + j * size, HEAD + (i + 0.5) * size, size
                levels.setdefault(round((LEVELS - 1) * n / total), []).append(run)
    marks = [text((left, 11), "prediction, from the first class", size=SIZE), text((left, 26), "rows: label", size=SIZE)]
    marks.append(box((left, HEAD), SIDE, SIDE, "shade"))
    for level, runs in sorted(levels.items()):
        marks.append(bars(runs, size, BLUE, _opacity(level / (LEVELS - 1))))
    return Drawing(left + SIDE + 4, HEAD + SIDE + 4, marks, label)
