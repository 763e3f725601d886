"""Matrices of coloured cells: measures of layers by timestep, and confusion matrices with the pairs that are confused most."""

from collections.abc import Sequence

import numpy as np

from lsgcli.analysis.measures import MEASURES
from lsgcli.registry import register
from lsgcli.report.charts import Values, path
from lsgcli.report.drawing import ADVANCE, BLUE, Spec, template
from lsgcli.report.figures import Flow, Panel, View, picture

# Pixels.
NAMES = 130  # maximum width of names
SIZE = 11  # of text
WIDE = 34  # of a cell with a number
NARROW = 10  # of one without
MANY = 16  # timesteps above which cells have no numbers
STEPS = ("coverage", "firing_rate", "u_mean", "u_std", "grad_zero", "rho")
NAMED = 30  # classes up to which cells of a confusion matrix have names and counts
SIDE = 600  # of a confusion matrix without names
SHADES = 16  # of its cells
LEAST = 0.2  # opacity of the smallest value, which differs from none
PAIRS = 10  # shown
BAR = {"symbolType": "square", "symbolSize": 150, "symbolFillColor": BLUE, "symbolStrokeWidth": 0, "format": ".2~g"}
Counts = Sequence[Sequence[int]]  # rows are labels, columns predictions


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
            chart = _heat_map(flow, rows, largest or 1.0, f"{title} by layer and timestep, {label}")
            panels.append(Panel(chart, label if len(flows) > 1 else "", width=NAMES + flow["T"] * WIDE))
        views.append(View(title, panels, len(flows)))
    return views


def _heat_map(flow: Flow, rows: Sequence[Values], largest: float, description: str) -> Spec:
    """A heat map below its colour bar."""
    T = flow["T"]
    numbered = T <= MANY
    cells = []
    for number, (layer, values) in enumerate(zip(flow["layers"], rows, strict=True), 1):
        name = f"{number} {layer['name']}"
        for t, value in enumerate([*values, *[None] * T][:T], 1):
            said = "no value" if value is None else f"{value:.3g}"
            words = f"{value:.2f}" if numbered and value is not None else ""
            cells.append({"row": name, "column": t, "words": words, "value": value, "tip": f"layer {name}, t = {t}: {said}"})
    columns = [t for t in range(1, T + 1) if numbered or t % 5 == 0]
    chart = _grid(description, cells, WIDE if numbered else NARROW, largest)
    chart["encoding"]["x"]["axis"]["values"] = columns
    chart["layer"][0]["encoding"]["opacity"]["legend"] = {**BAR, "values": [0, largest / 2, largest]}
    return chart


def _grid(description: str, cells: Sequence[Spec], width: float, most: float) -> Spec:
    """Coloured cells with words.

    Args:
        cells: fields ``row`` and ``column``, in the order of their first cells; ``words``; ``value``, which is orange below 0 and
            blue above, or None; and ``tip``.
        width: of a cell, pixels.
        most: the largest absolute value.
    """
    chart = template("heat-map", cells=cells)
    chart["layer"][0]["encoding"]["opacity"]["scale"]["domain"] = [0, most]
    return {**chart, "description": description, "width": {"step": width}}


def confusion(matrix: Counts, classes: Sequence[str]) -> Spec:
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
    cells = []
    for name, counts in zip(classes, matrix, strict=True):
        for prediction, count in zip(classes, counts, strict=True):
            tip = f"label {name}, prediction {prediction}: {count} of {sum(counts)}"
            share = count / sum(counts) if count else None
            cells.append({"row": name, "column": prediction, "words": f"{count or ''}", "value": share, "tip": tip})
    width = max(WIDE, ADVANCE * SIZE * len(f"{np.max(matrix)}") + 8)
    angle = 0 if ADVANCE * SIZE * max(map(len, classes)) < width else -45
    chart = _grid(label, cells, width, 1)
    chart["encoding"]["x"]["axis"] |= {"title": "prediction", "titleAnchor": "start", "labelAngle": angle}
    chart["encoding"]["y"]["axis"]["title"] = "label"
    return chart


def _unnamed(matrix: Counts, label: str) -> Spec:
    """Cells of many classes, without counts: one mark for each shade, because of 1000 classes, there may be a million cells."""
    samples = np.maximum(np.sum(matrix, 1, keepdims=True), 1)  # a label may have none
    levels = np.ceil(SHADES * np.array(matrix) / samples)  # 0 of no count only
    size = SIDE / len(matrix)
    shades = []
    for level in range(1, SHADES + 1):
        rows, columns = np.nonzero(levels == level)
        centres = zip((columns + 0.5) * size, (rows + 0.5) * size, strict=True)
        shades.append({"path": path(centres), "size": size, "opacity": LEAST + (1 - LEAST) * level / SHADES})
    return {**template("shades", shades=shades), "description": label, "width": SIDE, "height": SIDE}


def pairs(matrix: Counts, classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Label, prediction, count, and the label's number of samples, of the pairs that are confused most."""
    wrong = []
    for label, row in enumerate(matrix):
        for prediction, count in enumerate(row):
            if count and label != prediction:
                wrong.append((-count, label, prediction))
    return [(classes[i], classes[j], -count, sum(matrix[i])) for count, i, j in sorted(wrong)[:PAIRS]]
