"""Distribution of the membrane potential in each layer, and the prediction of the paper's Theorem 1."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from lsgcli.analysis import measures
from lsgcli.registry import register
from lsgcli.report.axes import Axes, Scale
from lsgcli.report.colours import COLOURS, Style
from lsgcli.report.drawing import Drawing, Mark, area, box, line, text
from lsgcli.report.pictures.base import Flow, Panel, View

WIDTH, HEIGHT = 200, 128
SIDE, TOP, BOTTOM = 4, 6, 20
FLOOR = HEIGHT - BOTTOM
SEEN = 0.998  # fraction of each layer's potentials within the x axis
PREDICTED = Style("ink", dash=(4, 3))


@register("picture", "potential")
class Potential:
    """A histogram for each layer of each checkpoint; with several checkpoints, one row per layer."""

    place: ClassVar = 30
    title: ClassVar = "Membrane potential by layer"
    shows: ClassVar = (
        "Distribution of the membrane potential u before the reset, over all timesteps, in units of the threshold. Full colour: inside "
        "the surrogate's interval; vertical line: the threshold; dashed: the normal distribution predicted by the paper, N(0, 1 + beta^2)."
    )
    hides: ClassVar = (
        "Differences between timesteps and between neurons. The prediction is exact only at the second timestep, without reset, for "
        "inputs independent in time; the reset, a tdBN gamma other than 1, and correlated currents (rho) cause deviations. Panels "
        "have different vertical scales; areas are equal."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        span = _span([layer for flow in flows for layer in flow["layers"]], [flow["threshold"] for flow in flows])
        if span is None:
            return []
        columns = len(flows) if len(flows) > 1 else 0
        panels = []
        for index in range(max(len(flow["layers"]) for flow in flows)):
            for number, (flow, label) in enumerate(zip(flows, labels, strict=True)):
                if index >= len(flow["layers"]):
                    panels.append(Panel(None))
                    continue
                layer = flow["layers"][index]
                title = f"{index + 1} {layer['name']}" + (f", {label}" if columns else "")
                drawing = _draw(layer, flow["threshold"], span, COLOURS[number % len(COLOURS)], title)
                panels.append(Panel(drawing, title, _note(layer, span), index + 1))
        entries = [(label, Style(colour)) for label, colour in zip(labels, COLOURS, strict=False)]
        return [View("potential", panels, columns, legend=[*entries, ("N(0, 1 + beta^2)", PREDICTED)])]


def bars(histogram: dict[str, Any]) -> list[tuple[float, float, float]]:
    """Left and right edge and density of each bin; including the counts outside, the area is 1."""
    edges, counts = histogram["edges"], histogram["counts"]
    total = sum(counts) + histogram["below"] + histogram["above"] or 1
    return [(left, right, n / (total * (right - left))) for (left, right), n in zip(pairwise(edges), counts, strict=True)]


def outside(histogram: dict[str, Any], span: tuple[float, float]) -> float:
    """Fraction of the potentials outside a panel."""
    inside = sum(d * (right - left) for left, right, d in bars(histogram) if _in(left, right, span))
    return max(0.0, 1 - inside) if any(histogram["counts"]) else 0.0


def _in(left: float, right: float, span: tuple[float, float]) -> bool:
    return left >= span[0] - 1e-9 and right <= span[1] + 1e-9


def _span(layers: list[dict[str, Any]], thresholds: list[float]) -> tuple[float, float] | None:
    """Integer limits that contain nearly all potentials of each layer, the intervals, and the centre of the prediction."""
    low, high = -2, 3
    histograms = [h for layer in layers if (h := layer.get("histogram"))]
    for layer in layers:
        if layer["alpha"] is not None:
            high = max(high, math.ceil(1 + layer["alpha"] / 2 / min(thresholds)))
    for histogram in histograms:
        first, last = math.floor(histogram["edges"][0]), math.ceil(histogram["edges"][-1])
        while low > first and outside(histogram, (low, last)) > (1 - SEEN) / 2 + outside(histogram, (first, last)):
            low -= 1
        while high < last and outside(histogram, (first, high)) > (1 - SEEN) / 2 + outside(histogram, (first, last)):
            high += 1
    return (low, high) if histograms else None


def _draw(layer: dict[str, Any], threshold: float, span: tuple[float, float], colour: str, title: str) -> Drawing | None:
    histogram = layer.get("histogram")
    if not histogram:
        return None
    sigma = (layer.get("u_std_predicted") or {}).get("paper")
    seen = [bar for bar in bars(histogram) if _in(bar[0], bar[1], span)]
    top = max([d for *_, d in seen] + ([1 / (sigma * math.sqrt(2 * math.pi))] if sigma else []), default=0) or 1.0

    at = Axes(WIDTH, HEIGHT, Scale(*span), Scale(0, top), SIDE, SIDE, TOP, BOTTOM).at
    marks: list[Mark] = []
    interval = [0.0, 0.0]
    if layer.get("interval") and None not in layer["interval"]:
        interval = [min(max(edge / threshold, span[0]), span[1]) for edge in layer["interval"]]
        x, end = (at(edge, 0)[0] for edge in interval)
        marks.append(box((x, TOP), end - x, FLOOR - TOP, "ink", 0.09))
    for (low, high), opacity in (span, 0.4), (interval, 0.75):
        clipped = [(max(left, low), min(right, high), d) for left, right, d in seen if right > low and left < high]
        steps = [point for left, right, d in clipped for point in (at(left, d), at(right, d))]
        if steps:
            marks.append(area([(steps[0][0], FLOOR), *steps, (steps[-1][0], FLOOR)], colour, opacity))
    marks.append(line([at(1, 0), (at(1, 0)[0], TOP)], "ink", 1.5))
    if sigma:
        grid = [span[0] + k * (span[1] - span[0]) / 80 for k in range(81)]
        curve = [at(u, math.exp(-((u / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))) for u in grid]
        marks.append(line(curve, PREDICTED.colour, 1.5, PREDICTED.dash))
    marks.append(line([(SIDE, FLOOR), (WIDTH - SIDE, FLOOR)], "soft"))
    step = max(1, math.ceil((span[1] - span[0]) / 8))
    ticks = [k for k in range(int(span[0]), int(span[1]) + 1) if (k - 1) % step == 0]
    marks += [text((at(k, 0)[0], HEIGHT - 5), f"{k}", size=11, anchor="middle") for k in ticks if span[0] < k < span[1]]
    return Drawing(WIDTH, HEIGHT, marks, f"Histogram of u / v_th in layer {title}: {_note(layer, span)}")


def _note(layer: dict[str, Any], span: tuple[float, float]) -> str:
    inside = "-" if layer["coverage"] is None else f"{layer['coverage']:.1%}"
    mean, std, predicted = (measures.text(layer, key) for key in ("u_mean", "u_std", "u_std_predicted.paper"))
    note = f"inside {inside}; mean {mean}; std {std} (predicted {predicted})"
    beyond = outside(layer["histogram"], span) if layer.get("histogram") else 0.0
    return note + (f"; {beyond:.1%} out of sight" if beyond >= 0.005 else "")
