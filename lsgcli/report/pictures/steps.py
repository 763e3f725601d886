"""Heat maps: a row per layer, a column per timestep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lsgcli.registry import register
from lsgcli.report.colours import DIVERGING, SEQUENTIAL, ink_on, ramp
from lsgcli.report.drawing import Drawing
from lsgcli.report.marks import ADVANCE, Box, Group, Line, Mark, Text, shortened
from lsgcli.report.pictures.base import Flow, Panel, View

NAMES, HEAD, ROW = 110, 48, 22  # pixels: column of names at most, colour bar and numbers of steps, a row
WIDE, MANY = 26, 16  # pixels of a cell that has room for its number, and steps of which more have none
SIZE = 11


@dataclass(frozen=True)
class Step:
    """A measure of each timestep: its key in ``per_step``, its name, its unit, and whether 0 is its middle."""

    key: str
    title: str
    unit: str
    signed: bool = False


STEPS = (
    Step("coverage", "coverage", "share inside the interval"),
    Step("firing_rate", "firing rate", "spikes per neuron and step"),
    Step("u_mean", "u mean", "in units of the threshold", signed=True),
    Step("u_std", "u std", "in units of the threshold"),
    Step("grad_zero", "dL/du = 0", "share of exact zeros"),
    Step("rho", "rho", "correlation of the currents of this step and the next", signed=True),
)


@register("picture", "steps")
class Steps:
    """A choice of measures; of each a heat map per checkpoint, all on one scale of colours."""

    place: ClassVar = 40
    title: ClassVar = "Layer by timestep"
    shows: ClassVar = (
        "One measure in every layer (from the input, downwards) and timestep (from the left), averaged over neurons and samples; the "
        "checkpoints share one scale of colours."
    )
    hides: ClassVar = (
        "Differences between neurons: an average of half may be all neurons half of the time, or half of them always."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        found = []
        for step in STEPS:
            values = [[_row(layer, step.key, flow["T"]) for layer in flow["layers"]] for flow in flows]
            known = [v for rows in values for row in rows for v in row if v is not None]
            if not known:
                continue
            low, high = (-max(map(abs, known)), max(map(abs, known))) if step.signed else (min(known), max(known))
            panels = [
                Panel(_draw(step, flow, rows, (low, high), label), label if len(flows) > 1 else "")
                for flow, rows, label in zip(flows, values, labels, strict=True)
            ]
            found.append(View(step.title, panels, len(flows), natural=True))
        return found


def _row(layer: dict[str, Any], key: str, T: int) -> list[float | None]:
    """A value for each step; None where the record has none."""
    values = list((layer.get("per_step") or {}).get(key) or [])
    return (values + [None] * T)[:T]


def _draw(step: Step, flow: Flow, rows: list[list[float | None]], span: tuple[float, float], label: str) -> Drawing:
    T = flow["T"]
    names = [shortened(f"{number} {layer['name']}", NAMES, SIZE) for number, layer in enumerate(flow["layers"], 1)]
    left = 10 + ADVANCE * SIZE * max(map(len, names))
    cell = WIDE if T <= MANY else max(8, 400 // T)
    colours = DIVERGING if step.signed else SEQUENTIAL
    marks = _scale(colours, span, step.unit)
    every = -(-20 // cell)
    marks += [Text(left + (t + 0.5) * cell, HEAD - 5, str(t + 1), size=SIZE, anchor="middle") for t in range(0, T, every)]
    for number, (name, values) in enumerate(zip(names, rows, strict=True), 1):
        cells = [
            Group(
                _cell(value, cell, span, colours),
                "" if cell == WIDE else f"{name}, t = {t}: {_text(value)}",
                dx=left + (t - 1) * cell,
            )
            for t, value in enumerate(values, 1)
        ]
        row: list[Mark] = [Text(left - 6, ROW - 7, name, "ink", SIZE, "end"), *cells]
        marks.append(Group(row, "", number, dy=HEAD + (number - 1) * ROW))
    said = f"{step.title} by layer and timestep, {label}: {span[0]:.3g} to {span[1]:.3g}"
    return Drawing(max(left + T * cell + 4, 240), HEAD + len(rows) * ROW + 4, marks, said)


def _cell(value: float | None, width: float, span: tuple[float, float], colours: Sequence[str]) -> list[Mark]:
    if value is None:
        return [Line([(width * 0.35, ROW / 2), (width * 0.65, ROW / 2)], "soft")]
    colour = ramp(colours, (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5)
    box = Box(0, 0, width - 1, ROW - 1, colour)
    if width < WIDE:
        return [box]
    return [box, Text((width - 1) / 2, ROW - 7, _short(value), ink_on(colour), SIZE, "middle")]


def _text(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3g}"


def _short(value: float) -> str:
    """Two digits, without the 0 before the point."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else f"{value:.1f}"


def _scale(colours: Sequence[str], span: tuple[float, float], unit: str) -> list[Mark]:
    """A bar of the colours with its ends' values, and the unit."""
    ends = [f"{value:.2g}" for value in span]
    marks: list[Mark] = [Text(2, 10, unit, size=SIZE), Text(2, 25, ends[0], size=SIZE)]
    left = 8 + 7 * len(ends[0])
    marks += [Box(left + k * 4, 16, 4.2, 10, ramp(colours, k / 23)) for k in range(24)]
    return [*marks, Text(left + 102, 25, ends[1], size=SIZE)]
