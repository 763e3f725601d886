"""Charts with one line per checkpoint over the layers, from input to output."""

from collections.abc import Sequence

from lsgcli.analysis.measures import MEASURES, text, value
from lsgcli.report import drawing
from lsgcli.report.axes import Axes, Scale, drawable, whole_ticks
from lsgcli.report.colours import Style
from lsgcli.report.drawing import Drawing, Mark
from lsgcli.report.pictures.base import Flow, legend

WIDTH, HEIGHT = 420, 270
ASIDE = 0.14  # horizontal offset between checkpoints, as a fraction of a layer, so that equal values do not overlap


def by_layer(
    flows: Sequence[Flow], labels: Sequence[str], key: str, *, limits: Sequence[Sequence[float]] = (), log: bool = False
) -> Drawing:
    """Values of a measure over the number of the layer; a ring marks layers whose verdict is not ok.

    Args:
        key: of the measure.
        limits: thresholds of verdicts for each checkpoint, drawn if within the scale.
        log: on a logarithmic scale, where values of 0 are the number 0 at the bottom; otherwise from 0.
    """
    title, n = MEASURES[key].title, max(len(flow["layers"]) for flow in flows)
    y = Scale.over((value(layer, key) for flow in flows for layer in flow["layers"]), log=log, zero=not log)
    axes = Axes(WIDTH, HEIGHT, Scale(0.5, n + 0.5), y)
    marks = axes.frame([i + 1 for i in whole_ticks(n, 20)], "layer, from the input", title)
    looks = [style for _, style in legend(labels)]
    asides = [ASIDE * (index - (len(flows) - 1) / 2) for index in range(len(flows))]
    for flow, style, aside, own in zip(flows, looks, asides, limits or [()] * len(flows), strict=True):
        for limit in own:
            if y.low <= limit <= y.high:
                marks.append(drawing.line([axes.at(0.5, limit), axes.at(n + 0.5, limit)], style.colour, 1, (1, 4)))
        marks += axes.line(
            [(number + aside, value(layer, key)) for number, layer in enumerate(flow["layers"], 1)], style, lone=False
        )
    for number in range(1, n + 1):
        (left, top), (right, floor) = axes.at(number - 0.5, y.high), axes.at(number + 0.5, y.low)
        column = [drawing.box((left, top), right - left, floor - top, "ink", 0)]  # enlarges the hover area
        tip = [f"layer {number}"]
        for flow, label, style, aside in zip(flows, labels, looks, asides, strict=True):
            if number <= len(flow["layers"]):
                layer = flow["layers"][number - 1]
                column += _marker(axes, number + aside, value(layer, key), style, layer["verdict"] == "ok")
                tip.append(f"{label}, {layer['name']}: {text(layer, key)}, {layer['verdict']}")
        marks.append(drawing.group(column, "\n".join(tip), number))
    return Drawing(WIDTH, HEIGHT, marks, f"{title} by layer: {'; '.join(map(_span, flows, labels, [key] * len(flows)))}")


def _marker(axes: Axes, x: float, number: float | None, style: Style, ok: bool) -> list[Mark]:
    if number is None:
        return []
    if not drawable(number, axes.y.log):
        return [drawing.text((axes.at(x, axes.y.low)[0], HEIGHT - axes.bottom - 3), "0", style.colour, anchor="middle")]
    at = axes.at(x, number)
    ring = [] if ok else [drawing.dot(at, "bad", radius=8, ring=True)]
    return [drawing.dot(at, style.colour, style.shape), *ring]


def _span(flow: Flow, label: str, key: str) -> str:
    known = [number for layer in flow["layers"] if (number := value(layer, key)) is not None]
    return f"{label} " + (f"{min(known):.3g} to {max(known):.3g}" if known else "without values")
