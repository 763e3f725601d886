"""Matrices of coloured cells: measures of layers by timestep, and confusion matrices with the pairs that are confused most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lsgcli.analysis.measures import MEASURES
from lsgcli.registry import register
from lsgcli.report.charts import Values
from lsgcli.report.drawing import ADVANCE, BLUE, ORANGE, Drawing, Mark, box, dots, group, shortened, text
from lsgcli.report.figures import Flow, Panel, View, picture

# Pixels.
NAMES = 130  # maximum width of names
SIZE = 11  # of text
HEAD = 48  # height of what is above the rows
ROW = 22  # height of a row
WIDE = 34  # of a cell with a number
NARROW = 10  # of one without
MANY = 16  # timesteps above which cells have no numbers
STEPS = ("coverage", "firing_rate", "u_mean", "u_std", "grad_zero", "rho")
NAMED = 30  # classes up to which cells of a confusion matrix have names and counts
SIDE = 600  # of a confusion matrix without names
SHADES = 16  # of its cells
PAIRS = 10  # shown
Counts = Sequence[Sequence[int]]  # rows are labels, columns predictions


class Cell(NamedTuple):
    """A cell: what it says, its tooltip, and its share of the largest value, which is blue, or orange if negative."""

    words: str
    tip: str
    share: float | None

    def marks(self, width: float) -> list[Mark]:
        """A box with the words."""
        if self.share is None:
            return [box((0, 0), width - 1, ROW - 1, "shade")]
        ground = box((0, 0), width - 1, ROW - 1, *_colour(self.share))
        return [ground, text(((width - 1) / 2, ROW - 7), self.words, "strong", SIZE, "middle")] if self.words else [ground]


def _colour(share: float) -> tuple[str, float]:
    """Colour and opacity; the smallest share differs from none."""
    return ORANGE if share < 0 else BLUE, 0.2 + 0.8 * abs(share)


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
    for number, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        own = [text((left - 6, ROW - 7), name, "ink", SIZE, "end")]
        for column, cell in enumerate(row):
            own.append(group(cell.marks(width), cell.tip, at=(left + column * width, 0)))
        marks.append(group(own, layer=number if layers else None, at=(0, HEAD + (number - 1) * ROW)))
    return marks, left


@register("picture", "steps")
@picture(
    "Layer by timestep",
    shows="One measure per layer (rows, from the input) and timestep (columns), averaged over neurons and samples, from 0; all checkpoints have "
    "the same colour scale, on which values below 0 are orange.",
    hides="Differences between neurons: an average of 0.5 may be all neurons half of the time, or half of the neurons all of the time.",
)
def steps(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """A heat map per checkpoint for each of several measures."""
    views = []
    for key in STEPS:
        title = MEASURES[key].title
        values = [[(layer.get("per_step") or {}).get(key) or [] for layer in flow["layers"]] for flow in flows]
        largest = max((abs(v) for rows in values for row in rows for v in row if v is not None), default=None)
        if largest is None:
            continue
        panels = []
        for flow, rows, label in zip(flows, values, labels, strict=True):
            drawing = _heat_map(flow, rows, largest or 1.0, f"{title} by layer and timestep, {label}")
            panels.append(Panel(drawing, label if len(flows) > 1 else ""))
        views.append(View(title, panels, len(flows)))
    return views


def _heat_map(flow: Flow, rows: Sequence[Values], largest: float, description: str) -> Drawing:
    """A heat map below its colour bar."""
    names = [f"{number} {layer['name']}" for number, layer in enumerate(flow["layers"], 1)]
    T = flow["T"]
    numbered = T <= MANY
    width = WIDE if numbered else NARROW
    cells = []
    for name, values in zip(names, rows, strict=True):
        row = [Cell("", f"{name}, t = {t}: no value", None) for t in range(1, T + 1)]
        for t, value in enumerate(values[:T]):
            if value is not None:
                row[t] = Cell(f"{value:.2f}" if numbered else "", f"{name}, t = {t + 1}: {value:.3g}", value / largest)
        cells.append(row)
    columns = [f"{t}" if numbered or t % 5 == 0 else "" for t in range(1, T + 1)]
    marks, left = grid(names, columns, cells, width, layers=True)
    marks += [text((2, 25), "0", size=SIZE), text((117, 25), f"{largest:.2g}", size=SIZE)]
    marks += [box((12 + 5 * k, 16), 5, 10, *_colour(k / 19)) for k in range(20)]
    return Drawing(max(left + T * width + 4, 160), HEAD + len(rows) * ROW + 4, marks, description)


def confusion(matrix: Counts, classes: Sequence[str]) -> Drawing:
    """A confusion matrix, coloured by the fraction of each label's samples; cells without samples are empty.

    Args:
        matrix: (classes, classes) counts; rows are labels, columns predictions.
    """
    n = len(classes)
    total = np.sum(matrix)
    right = np.trace(matrix)
    label = f"Confusion matrix of {n} classes: {right} of {total} samples on the diagonal"
    if n > NAMED:
        return _unnamed(matrix, label)
    width = max(WIDE, ADVANCE * SIZE * len(f"{np.max(matrix)}") + 8)
    rows = []
    for name, counts in zip(classes, matrix, strict=True):
        row = []
        for prediction, count in zip(classes, counts, strict=True):
            tip = f"label {name}, prediction {prediction}: {count} of {sum(counts)}"
            row.append(Cell(f"{count}", tip, count / sum(counts) if count else None))
        rows.append(row)
    marks, left = grid(classes, [shortened(name, width, SIZE) for name in classes], rows, width)
    marks.append(text((left - 6, HEAD - 5), "label", size=SIZE, anchor="end"))
    marks.append(text((left, HEAD - 20), "prediction", size=SIZE))
    return Drawing(left + n * width + 4, HEAD + n * ROW + 4, marks, label)


def _unnamed(matrix: Counts, label: str) -> Drawing:
    """Cells of many classes, without counts: one mark for each shade, because of 1000 classes, there may be a million cells."""
    size = SIDE / len(matrix)
    marks = [text((0, 11), "prediction, from the first class; rows: label", size=SIZE), box((0, 20), SIDE, SIDE, "shade")]
    samples = np.maximum(np.sum(matrix, 1, keepdims=True), 1)  # a label may have none
    levels = np.ceil(SHADES * np.array(matrix) / samples)  # 0 of no count only
    for level in range(1, SHADES + 1):
        rows, columns = np.nonzero(levels == level)
        if len(rows):
            centres = zip((columns + 0.5) * size, 20 + (rows + 0.5) * size, strict=True)
            marks.append(dots(list(centres), size, *_colour(level / SHADES), "square"))
    return Drawing(SIDE, SIDE + 20, marks, label)


def pairs(matrix: Counts, classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Label, prediction, count, and the label's number of samples, of the pairs that are confused most."""
    wrong = []
    for label, row in enumerate(matrix):
        for prediction, count in enumerate(row):
            if count and label != prediction:
                wrong.append((-count, label, prediction))
    return [(classes[i], classes[j], -count, sum(matrix[i])) for count, i, j in sorted(wrong)[:PAIRS]]
