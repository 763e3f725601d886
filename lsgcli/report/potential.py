"""Distribution of the membrane potential in each layer, and the prediction of the paper's Theorem 1."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from lsgcli.analysis import measures
from lsgcli.registry import register
from lsgcli.report.charts import Axes, Scale
from lsgcli.report.drawing import COLOURS, Drawing, Style, area, box, line, text
from lsgcli.report.figures import Flow, Panel, View, layer_panels, picture
from lsgcli.report.tables import formatted

WIDTH, HEIGHT = 200, 128
SIDE, TOP, BOTTOM = 4, 6, 20
FLOOR = HEIGHT - BOTTOM
SEEN = 0.998  # fraction of each layer's potentials within the x axis
PREDICTED = Style("ink", dash=(4, 3))
Layer = Flow  # the record of a layer
Span = tuple[float, float]  # limits of the x axis


@register("picture", "potential")
@picture(
    "Membrane potential by layer",
    shows="Distribution of the membrane potential u before the reset, over all timesteps, in units of the threshold. Full colour: inside "
    "the surrogate's interval; vertical line: the threshold; dashed: the normal distribution predicted by the paper, N(0, 1 + beta^2).",
    hides="Differences between timesteps and between neurons. The prediction is exact only at the second timestep, without reset, for "
    "inputs independent in time; the reset, a tdBN gamma other than 1, and correlated currents (rho) cause deviations. Panels "
    "have different vertical scales; areas are equal.",
)
def potential(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """A histogram for each layer of each checkpoint; with several checkpoints, one row per layer."""
    layers = [layer for flow in flows for layer in flow["layers"]]
    if not any(layer.get("histogram") for layer in layers):
        return []
    span = _span(layers, min(flow["threshold"] for flow in flows))

    def panel(layer: Layer, index: int, title: str) -> Panel:
        note = _note(layer, span)
        if not layer.get("histogram"):
            return Panel(None, title, note)
        colour = COLOURS[index % len(COLOURS)]
        return Panel(_draw(layer, flows[index]["threshold"], span, colour, f"{title}: {note}"), title, note)

    panels = layer_panels([flow["layers"] for flow in flows], labels, panel)
    legend = [(label, Style(colour)) for label, colour in zip(labels, COLOURS, strict=False)]
    return [View("potential", panels, len(flows) if len(flows) > 1 else 0, legend=[*legend, ("N(0, 1 + beta^2)", PREDICTED)])]


def _bars(layer: Layer, span: Span) -> list[tuple[float, float, float]]:
    """Left and right edge and density of each bin within limits; including all counts outside, the area is 1."""
    histogram = layer["histogram"]
    total = sum(histogram["counts"]) + histogram["below"] + histogram["above"] or 1
    bars = []
    for (left, right), count in zip(pairwise(histogram["edges"]), histogram["counts"], strict=True):
        if left >= span[0] - 1e-9 and right <= span[1] + 1e-9:
            bars.append((left, right, count / (total * (right - left))))
    return bars


def _outside(layer: Layer, span: Span) -> float:
    """Fraction of the potentials outside limits."""
    inside = sum(density * (right - left) for left, right, density in _bars(layer, span))
    return max(0.0, 1 - inside) if any(layer["histogram"]["counts"]) else 0.0


def _span(layers: Sequence[Layer], threshold: float) -> Span:
    """Integer limits that contain nearly all potentials of each layer, the intervals, and the centre of the prediction."""
    low, high = -2, 3
    for layer in layers:
        if layer["alpha"] is not None:
            high = max(high, math.ceil(1 + layer["alpha"] / 2 / threshold))
        if layer.get("histogram") and any(layer["histogram"]["counts"]):
            edges, share = layer["histogram"]["edges"], np.cumsum(layer["histogram"]["counts"])
            first, last = np.searchsorted(share, np.array([1 - SEEN, 1 + SEEN]) / 2 * share[-1]).tolist()
            low, high = min(low, math.floor(edges[first])), max(high, math.ceil(edges[last + 1]))
    return low, high


def _draw(layer: Layer, threshold: float, span: Span, colour: str, label: str) -> Drawing:
    low, high = span
    bars = _bars(layer, span)
    densities = [density for *_, density in bars]
    sigma = (layer.get("u_std_predicted") or {}).get("paper")
    predicted = NormalDist(0, sigma) if sigma and sigma > 0 else None
    if predicted:
        densities.append(predicted.pdf(0))
    at = Axes(WIDTH, HEIGHT, Scale(low, high), Scale(0, max(densities, default=0) or 1.0), SIDE, SIDE, TOP, BOTTOM).at
    marks = []
    interval = (0.0, 0.0)
    edges = layer.get("interval")
    if edges and None not in edges:
        begin, end = np.clip(np.array(edges) / threshold, low, high).tolist()
        interval = (begin, end)
        left, right = at(begin, 0)[0], at(end, 0)[0]
        marks.append(box((left, TOP), right - left, FLOOR - TOP, "ink", 0.09))
    for (begin, end), opacity in (span, 0.4), (interval, 0.75):
        steps = []
        for left, right, density in bars:
            if right > begin and left < end:
                steps += [at(max(left, begin), density), at(min(right, end), density)]
        if steps:
            marks.append(area([(steps[0][0], FLOOR), *steps, (steps[-1][0], FLOOR)], colour, opacity))
    marks.append(line([at(1, 0), (at(1, 0)[0], TOP)], "ink", 1.5))
    if predicted:
        curve = [at(u, predicted.pdf(u)) for u in np.linspace(low, high, 81).tolist()]
        marks.append(line(curve, PREDICTED.colour, 1.5, PREDICTED.dash))
    marks.append(line([(SIDE, FLOOR), (WIDTH - SIDE, FLOOR)], "soft"))
    step = max(1, math.ceil((high - low) / 8))
    ticks = [k for k in range(int(low) + 1, int(high)) if (k - 1) % step == 0]
    marks += [text((at(k, 0)[0], HEIGHT - 5), f"{k}", size=11, anchor="middle") for k in ticks]
    return Drawing(WIDTH, HEIGHT, marks, f"Histogram of u / v_th in layer {label}")


def _note(layer: Layer, span: Span) -> str:
    inside = formatted(layer["coverage"], ".1%")
    mean, std, predicted = (measures.text(layer, key) for key in ("u_mean", "u_std", "u_std_predicted.paper"))
    note = f"inside {inside}; mean {mean}; std {std} (predicted {predicted})"
    beyond = _outside(layer, span) if layer.get("histogram") else 0.0
    return note + (f"; {beyond:.1%} out of sight" if beyond >= 0.005 else "")
