"""A line per checkpoint over the layers, from the input to the output."""

from collections.abc import Sequence

from lsgcli.report.axes import SIZE, Axes, Scale, drawable, whole_ticks
from lsgcli.report.drawing import Drawing
from lsgcli.report.marks import Dot, Group, Line, Mark, Text
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
    for index, ((label, style), flow, own) in enumerate(zip(legend(labels), flows, limits or [()] * len(flows), strict=True)):
        aside = ASIDE * (index - (len(flows) - 1) / 2)
        values = [(number + aside, measure.of(layer)) for number, layer in enumerate(flow["layers"], 1)]
        marks += [
            Line([axes.at(axes.x.low, limit), axes.at(axes.x.high, limit)], style.colour, 1, (1, 4))
            for limit in own
            if y.low <= limit <= y.high
        ]
        marks += [mark for mark in axes.line(values, style) if isinstance(mark, Line)]
        for number, ((place, value), layer) in enumerate(zip(values, flow["layers"], strict=True), 1):
            if value is None:
                continue
            text = f"{label}, layer {number} {layer['name']}: {measure.title} {measure.text(layer)}, {layer['verdict']}"
            marker: list[Mark] = [Text(axes.at(place, y.low)[0], HEIGHT - axes.bottom - 3, "0", style.colour, SIZE, "middle")]
            if drawable(value, y.log):
                x, height = axes.at(place, value)
                ring = [] if layer["verdict"] == "ok" else [Dot(x, height, "bad", "circle", 8, ring=True)]
                marker = [Dot(x, height, style.colour, style.shape), *ring]
            marks.append(Group(marker, text, number))
    return Drawing(WIDTH, HEIGHT, marks, _said(flows, labels, measure))


def _said(flows: Sequence[Flow], labels: Sequence[str], measure: Measure) -> str:
    spans = []
    for label, flow in zip(labels, flows, strict=True):
        known = [v for layer in flow["layers"] if (v := measure.of(layer)) is not None]
        spans.append(f"{label} " + (f"{min(known):.3g} to {max(known):.3g}" if known else "without values"))
    return f"{measure.title} by layer: {'; '.join(spans)}"
