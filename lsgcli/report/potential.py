"""Distribution of the membrane potential in each layer, and the prediction of the paper's Theorem 1."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from lsgcli.analysis import measures
from lsgcli.registry import register
from lsgcli.report.charts import Axes, Scale
from lsgcli.report.drawing import COLOURS, Drawing, Style, area, box, line, text
from lsgcli.report.figures import Flow, Panel, View, layer_views, picture
from lsgcli.report.tables import formatted

WIDTH = 200
HEIGHT = 128
SIDE = 4
TOP = 6
BOTTOM = 20
PREDICTED = Style("ink", "4 3")
Layer = Flow  # the record of a layer


@register("picture", "potential")
@picture(
    "Membrane potential by layer",
    shows="Distribution of the membrane potential u before the reset, over all timesteps, in units of the threshold. Shaded: "
    "the surrogate's interval; vertical line: the threshold; dashed: the normal distribution predicted by the paper, N(0, 1 + beta^2).",
    hides="Differences between timesteps and between neurons. The prediction is exact only at the second timestep, without reset, for "
    "inputs independent in time; the reset, a tdBN gamma other than 1, and correlated currents (rho) cause deviations. Panels "
    "have different vertical scales; areas are equal.",
)
def potential(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """A histogram for each layer of each checkpoint; with several checkpoints, one row per layer."""
    if not any(layer.get("histogram") for flow in flows for layer in flow["layers"]):
        return []

    def panel(layer: Layer, index: int, title: str) -> Panel:
        note = _note(layer)
        if not layer.get("histogram"):
            return Panel(None, title, note)
        colour = COLOURS[index % len(COLOURS)]
        return Panel(_draw(layer, flows[index]["threshold"], colour, f"{title}: {note}"), title, note)

    legend = [(label, Style(colour)) for label, colour in zip(labels, COLOURS, strict=False)]
    networks = [flow["layers"] for flow in flows]
    return layer_views("potential", networks, labels, panel, [*legend, ("N(0, 1 + beta^2)", PREDICTED)])


def _draw(layer: Layer, threshold: float, colour: str, label: str) -> Drawing:
    edges = np.array(layer["histogram"]["edges"])
    density = _density(layer)
    highest = density.max()
    sigma = (layer.get("u_std_predicted") or {}).get("paper") or 0.0
    if sigma > 0:
        predicted = NormalDist(0, sigma)
        highest = max(highest, predicted.pdf(0))
    axes = Axes(WIDTH, HEIGHT, Scale(edges[0], edges[-1]), Scale(0, highest or 1.0), SIDE, SIDE, TOP, BOTTOM)
    marks = []
    interval = layer.get("interval") or [None]
    if None not in interval:
        begin, end = np.clip(np.array(interval) / threshold, edges[0], edges[-1])
        left, floor = axes.at(begin, 0)
        right, top = axes.at(end, axes.y.high)
        marks.append(box((left, top), right - left, floor - top, "ink", 0.12))
    heights = [0, *np.repeat(density, 2), 0]
    marks.append(area([axes.at(u, height) for u, height in zip(np.repeat(edges, 2), heights, strict=True)], colour, 0.75))
    marks.append(line([axes.at(1, 0), axes.at(1, axes.y.high)], "ink", 1.5))
    if sigma > 0:
        curve = [axes.at(u, predicted.pdf(u)) for u in np.linspace(edges[0], edges[-1], 81)]
        marks.append(line(curve, PREDICTED.colour, 1.5, PREDICTED.dash))
    marks.append(line([axes.at(axes.x.low, 0), axes.at(axes.x.high, 0)], "soft"))
    ticks = axes.x.ticks()[1:-1]
    marks += [text((axes.at(tick, 0)[0], HEIGHT - 5), f"{tick:g}", size=11, anchor="middle") for tick in ticks]
    return Drawing(WIDTH, HEIGHT, marks, f"Histogram of u / v_th in layer {label}")


def _density(layer: Layer) -> np.ndarray:
    """Density in each bin; including the counts outside of the bins, the area is 1."""
    histogram = layer["histogram"]
    counts = np.array(histogram["counts"], float)
    total = counts.sum() + histogram["below"] + histogram["above"]
    return counts / np.diff(histogram["edges"]) / max(total, 1)


def _note(layer: Layer) -> str:
    inside = formatted(layer["coverage"], ".1%")
    mean, std, predicted = (measures.text(layer, key) for key in ("u_mean", "u_std", "u_std_predicted.paper"))
    note = f"inside {inside}; mean {mean}; std {std} (predicted {predicted})"
    if layer.get("histogram"):
        beyond = 1 - (_density(layer) * np.diff(layer["histogram"]["edges"])).sum()
        note += f"; {beyond:.1%} out of sight" if 0.005 <= beyond < 1 else ""
    return note
