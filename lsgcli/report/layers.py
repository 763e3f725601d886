"""Pictures with a panel for each layer: the distribution of its membrane potential, and its activity in one sample."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import NormalDist

import numpy as np

from lsgcli.analysis import measures
from lsgcli.registry import register
from lsgcli.report.charts import Axes, Legend, Scale
from lsgcli.report.drawing import COLOURS, Drawing, Mark, Style, area, box, dots, group, line, styles, text
from lsgcli.report.figures import Flow, Panel, View, picture
from lsgcli.report.tables import formatted

PREDICTED = Style("ink", "4 3")
# Pixels of a raster and the potentials below it.
WIDTH = 284
HEIGHT = 296
LEFT = 50
RIGHT = 6
HEAD = 20
RASTER = 120  # height; potentials take the rest
GAP = 32
FOOT = 34
SIZE = 11  # pixels of text
LEAST = 2.0  # diameter of a spike, pixels, unless timesteps are closer
ROLES = {  # of neurons, by their styles; the names of layers in which no neuron or every neuron fires differ
    "most active": 0,
    "highest potential": 0,
    "median active": 1,
    "silent": 2,
    "least active": 2,
}
NAMES = ("most active, or nearest to the threshold", "median of the active", "silent, or least active")


def layer_views(
    name: str,
    networks: Sequence[Sequence[Flow]],
    labels: Sequence[str],
    panel: Callable[[Flow, int, str], Panel],
    legend: Legend,
) -> list[View]:
    """A view with a panel for each layer of each network, empty where a network has fewer layers than another; none without layers.

    Args:
        networks: records of the layers of each; of several networks, a row for each layer.
        panel: draws a record, of a network with this index, under this title.
    """
    panels = []
    for number, row in enumerate(zip_longest(*networks), 1):
        for index, layer in enumerate(row):
            if layer is None:
                panels.append(Panel(None))
            else:
                title = f"{number} {layer['name']}" + (f", {labels[index]}" if len(labels) > 1 else "")
                panels.append(replace(panel(layer, index, title), layer=number))
    return [View(name, panels, len(labels) if len(labels) > 1 else 0, legend)] if panels else []


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

    def panel(layer: Flow, index: int, title: str) -> Panel:
        note = _of_histogram(layer)
        if not layer.get("histogram"):
            return Panel(None, title, note)
        colour = COLOURS[index % len(COLOURS)]
        return Panel(_histogram(layer, flows[index]["threshold"], colour, f"{title}: {note}"), title, note)

    legend = [(label, Style(colour)) for label, colour in zip(labels, COLOURS, strict=False)]
    networks = [flow["layers"] for flow in flows]
    return layer_views("potential", networks, labels, panel, [*legend, ("N(0, 1 + beta^2)", PREDICTED)])


def _histogram(layer: Flow, threshold: float, colour: str, label: str) -> Drawing:
    edges = np.array(layer["histogram"]["edges"])
    density = _density(layer)
    highest = density.max()
    sigma = (layer.get("u_std_predicted") or {}).get("paper") or 0.0
    if sigma > 0:
        predicted = NormalDist(0, sigma)
        highest = max(highest, predicted.pdf(0))
    axes = Axes(200, 128, Scale(edges[0], edges[-1]), Scale(0, highest or 1.0), 4, 4, 6, 20)
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
    marks += [text((axes.at(tick, 0)[0], axes.height - 5), f"{tick:g}", size=11, anchor="middle") for tick in ticks]
    return Drawing(axes.width, axes.height, marks, f"Histogram of u / v_th in layer {label}")


def _density(layer: Flow) -> np.ndarray:
    """Density in each bin; including the counts outside of the bins, the area is 1."""
    histogram = layer["histogram"]
    counts = np.array(histogram["counts"], float)
    total = counts.sum() + histogram["below"] + histogram["above"]
    return counts / np.diff(histogram["edges"]) / max(total, 1)


def _of_histogram(layer: Flow) -> str:
    inside = formatted(layer["coverage"], ".1%")
    mean, std, predicted = (measures.text(layer, key) for key in ("u_mean", "u_std", "u_std_predicted.paper"))
    note = f"inside {inside}; mean {mean}; std {std} (predicted {predicted})"
    if layer.get("histogram"):
        beyond = 1 - (_density(layer) * np.diff(layer["histogram"]["edges"])).sum()
        note += f"; {beyond:.1%} out of sight" if 0.005 <= beyond < 1 else ""
    return note


@register("picture", "raster")
@picture(
    "Activity of one sample",
    shows="Spikes of one training sample: one row per neuron, the most active at the top, equally active ones in order of their first spikes, "
    "and a dot for each spike. Below, the membrane potential u before the reset of three neurons, in units of the threshold. Horizontal line: "
    "the threshold; shaded: the interval of the surrogate, outside which a rectangular surrogate passes no gradient.",
    hides="Other samples, most neurons of large layers, and the positions of neurons in the image. The silent neuron is the median of the silent ones "
    "by maximum potential.",
)
def raster(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """A raster and potentials of each layer of each checkpoint; with several checkpoints, one row per layer."""
    activities = [flow.get("activity") or {"sample": 0, "layers": []} for flow in flows]

    def panel(layer: Flow, index: int, title: str) -> Panel:
        note = _of_activity(layer, activities[index]["sample"])
        return Panel(_spikes(layer, f"{title}: {note}"), title, note)

    legend = list(zip(NAMES, styles(len(NAMES)), strict=True))
    return layer_views("raster", [activity["layers"] for activity in activities], labels, panel, legend)


def _of_activity(layer: Flow, sample: int) -> str:
    shown = len(layer["spikes"])
    n = layer["neurons"]
    rate = formatted(layer["firing_rate"], ".3f")
    which = "all shown" if shown >= n else f"{shown} shown, evenly chosen"
    return f"Sample {sample}: {layer['active'] / max(1, n):.1%} of {n:,} neurons fire, rate {rate}; {which}"


def _spikes(layer: Flow, label: str) -> Drawing:
    """The raster above the potentials, with a common axis of timesteps."""
    rows = layer["spikes"]
    T = max([1, *map(len, rows)])
    inside = WIDTH - LEFT - RIGHT
    step = inside / T
    pitch = RASTER / max(1, len(rows))
    spikes = []
    for number, row in enumerate(rows):
        for t, spike in enumerate(row):
            if spike == "1":
                spikes.append((LEFT + (t + 0.5) * step, HEAD + (number + 0.5) * pitch))
    marks = [
        box((LEFT, HEAD), inside, RASTER, "shade"),
        dots(spikes, min(max(pitch, LEAST), step), "ink"),
        text((2, 12), "neuron", "ink", SIZE),
        text((LEFT - 6, HEAD + 9), "1", size=SIZE, anchor="end"),
        text((LEFT - 6, HEAD + RASTER), f"{layer['neurons']:,}", size=SIZE, anchor="end"),
    ]
    return Drawing(
        WIDTH, HEIGHT, marks + _potentials(layer["traces"], T), f"Spikes and membrane potentials of one sample in layer {label}"
    )


def _potentials(traces: Sequence[Flow], T: int) -> list[Mark]:
    """Window of the surrogate, threshold, and potentials of each neuron."""
    scale = Scale.over([-0.5, 2.0, *(u for trace in traces for u in trace["u"])])
    axes = Axes(WIDTH, HEIGHT, Scale(0.5, T + 0.5), scale, LEFT, RIGHT, HEAD + RASTER + GAP, FOOT)
    marks = [*axes.frame(T, "timestep"), text((2, axes.top - 12), "u / v_th", "ink", SIZE)]
    looks = styles(len(NAMES))
    for trace in traces[:1]:
        widths = trace["alpha"] * (T if len(trace["alpha"]) == 1 else 1)
        upper = []
        lower = []
        for t, width in enumerate(widths, 1):
            half = (width or 0.0) / 2
            for side in (t - 0.5, t + 0.5):
                upper.append(axes.at(side, min(1 + half, scale.high)))
                lower.append(axes.at(side, max(1 - half, scale.low)))
        marks.append(area([*upper, *reversed(lower)], "ink", 0.12))
    marks.append(line([axes.at(0.5, 1), axes.at(T + 0.5, 1)], "ink", 1.5))
    for trace in reversed(traces):
        where = ", ".join(map(str, trace["neuron"]))
        spikes = sum(u is not None and u >= 1 for u in trace["u"])
        own = axes.line(trace["u"], looks[ROLES.get(trace["role"], 0)], 1.5)
        marks.append(group(own, f"neuron {where}: {trace['role']}, {spikes} spikes"))
    return marks
