"""A line per checkpoint over the layers, from the input to the output."""

from collections.abc import Sequence

from lsgcli.report.axes import SIZE, Axes, Scale, drawable, whole_ticks
from lsgcli.report.colours import Style
from lsgcli.report.drawing import Drawing
from lsgcli.report.marks import Box, Dot, Group, Line, Mark, Text
from lsgcli.report.measures import Measure
from lsgcli.report.pictures.base import Flow, legend

WIDTH, HEIGHT = 420, 270
ASIDE = 0.14  # of a layer's room: how far checkpoints stand from each other, so that equal values do not hide each other


def by_layer(
    flows: Sequence[Flow], labels: Sequence[str], measure: Measure, y: Scale, limits: Sequence[Sequence[float]] = ()
) -> Drawing:
    """Values of a measure over the number of the layer; a ring marks layers whose verdict is not ok.

    Args:
        y: its scale. On a logarithmic one, values of 0 stand at the bottom, as the number 0.
        limits: values for each checkpoint where a verdict begins; drawn where they lie on the scale.
    """
    n = max(len(flow["layers"]) for flow in flows)
    axes = Axes(WIDTH, HEIGHT, Scale(0.5, n + 0.5), y)
    marks = axes.frame([i + 1 for i in whole_ticks(n, 20)], "layer, from the input", measure.title)
    looks = [style for _, style in legend(labels)]
    asides = [ASIDE * (index - (len(flows) - 1) / 2) for index in range(len(flows))]
    for flow, style, aside, own in zip(flows, looks, asides, limits or [()] * len(flows), strict=True):
        for limit in own:
            if y.low <= limit <= y.high:
                marks.append(Line([axes.at(axes.x.low, limit), axes.at(axes.x.high, limit)], style.colour, 1, (1, 4)))
        values = [(number + aside, measure.of(layer)) for number, layer in enumerate(flow["layers"], 1)]
        marks += [mark for mark in axes.line(values, style) if isinstance(mark, Line)]
    for number in range(1, n + 1):
        here = [flow["layers"][number - 1] if number <= len(flow["layers"]) else None for flow in flows]
        (left, top), (right, floor) = axes.at(number - 0.5, y.high), axes.at(number + 0.5, y.low)
        column: list[Mark] = [Box(left, top, right - left, floor - top, "ink", 0)]  # so that one need not hit a marker
        told = [f"layer {number}"]
        for layer, label, style, aside in zip(here, labels, looks, asides, strict=True):
            if layer is not None:
                column += _marker(axes, number + aside, measure.of(layer), style, layer["verdict"] == "ok")
                told.append(f"{label}, {layer['name']}: {measure.text(layer)}, {layer['verdict']}")
        marks.append(Group(column, "\n".join(told), number))
    return Drawing(WIDTH, HEIGHT, marks, _said(flows, labels, measure))


def _marker(axes: Axes, place: float, value: float | None, style: Style, well: bool) -> list[Mark]:
    if value is None:
        return []
    if not drawable(value, axes.y.log):
        return [Text(axes.at(place, axes.y.low)[0], HEIGHT - axes.bottom - 3, "0", style.colour, SIZE, "middle")]
    x, y = axes.at(place, value)
    ring = [] if well else [Dot(x, y, "bad", "circle", 8, ring=True)]
    return [Dot(x, y, style.colour, style.shape), *ring]


def _said(flows: Sequence[Flow], labels: Sequence[str], measure: Measure) -> str:
    spans = []
    for label, flow in zip(labels, flows, strict=True):
        known = [v for layer in flow["layers"] if (v := measure.of(layer)) is not None]
        spans.append(f"{label} " + (f"{min(known):.3g} to {max(known):.3g}" if known else "without values"))
    return f"{measure.title} by layer: {'; '.join(spans)}"
