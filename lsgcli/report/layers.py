"""Pictures with a panel for each layer: the distribution of its membrane potential, and its activity in one sample."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import NormalDist

import numpy as np

from lsgcli.analysis import measures
from lsgcli.registry import register
from lsgcli.report.charts import Legend, line_chart, line_rows, path, styled, y_scale
from lsgcli.report.drawing import Spec, Style, styles, template
from lsgcli.report.figures import Flow, Panel, View, picture
from lsgcli.report.tables import formatted

NORMAL = "N(0, 1 + beta^2)"
PREDICTED = Style("var(--ink)", (4, 3))
# Pixels, as in the templates.
HISTOGRAM = 212
WIDTH = 228  # of a raster and the potentials below it
RASTER = 120  # height
POTENTIALS = 90  # height
LEAST = 2.0  # size of a spike, unless timesteps are closer
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
        chart = _histogram(layer, flows[index]["threshold"], labels[index], legend, f"{title}: {note}")
        return Panel(chart, title, note, width=HISTOGRAM)

    legend = {label: Style(style.colour) for label, style in zip(labels, styles(len(labels)), strict=True)} | {
        NORMAL: PREDICTED
    }
    return layer_views("potential", [flow["layers"] for flow in flows], labels, panel, legend)


def _histogram(layer: Flow, threshold: float, name: str, legend: Legend, label: str) -> Spec:
    edges = np.array(layer["histogram"]["edges"])
    bars = [
        {"name": name, "u": u, "density": density}
        for u, density in zip(edges.tolist(), [*_density(layer).tolist(), 0.0], strict=True)
    ]
    sigma = (layer.get("u_std_predicted") or {}).get("paper") or 0.0
    curve = []
    if sigma > 0:
        predicted = NormalDist(0, sigma)
        curve = [{"name": NORMAL, "u": u, "density": predicted.pdf(u)} for u in np.linspace(edges[0], edges[-1], 81).tolist()]
    ends = [end / threshold for end in layer.get("interval") or [] if end is not None]
    within = np.clip(ends, edges[0], edges[-1]).tolist()
    interval = [{"begin": within[0], "end": within[1]}] if len(within) == 2 else []
    chart = template("histogram", bars=bars, curve=curve, interval=interval)
    chart["description"] = f"Histogram of u / v_th in layer {label}"
    return styled(chart, legend)


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
        return Panel(_spikes(layer, legend, f"{title}: {note}"), title, note, width=WIDTH + 56)

    legend = dict(zip(NAMES, styles(len(NAMES)), strict=True))
    return layer_views("raster", [activity["layers"] for activity in activities], labels, panel, legend)


def _of_activity(layer: Flow, sample: int) -> str:
    shown = len(layer["spikes"])
    n = layer["neurons"]
    rate = formatted(layer["firing_rate"], ".3f")
    which = "all shown" if shown >= n else f"{shown} shown, evenly chosen"
    return f"Sample {sample}: {layer['active'] / max(1, n):.1%} of {n:,} neurons fire, rate {rate}; {which}"


def _spikes(layer: Flow, legend: Legend, label: str) -> Spec:
    """The raster above the potentials, with a common axis of timesteps."""
    rows = layer["spikes"]
    T = max([1, *map(len, rows)])
    step = WIDTH / T
    pitch = RASTER / max(1, len(rows))
    spikes = []
    for number, row in enumerate(rows):
        for t, spike in enumerate(row):
            if spike == "1":
                spikes.append(((t + 0.5) * step, (number + 0.5) * pitch))
    ends = [1, layer["neurons"]]
    size = min(max(pitch, LEAST), step)
    raster = template("raster", spikes=[{"path": path(spikes), "size": size}], ends=[{"neuron": number} for number in ends])
    raster["layer"][1]["encoding"]["y"]["axis"]["values"] = ends
    return {
        "description": f"Spikes and membrane potentials of one sample in layer {label}",
        "vconcat": [raster, _potentials(layer["traces"], T, legend)],
        "spacing": 12,
    }


def _potentials(traces: Sequence[Flow], T: int, legend: Legend) -> Spec:
    """Window of the surrogate, threshold, and potentials of each neuron."""
    scale = y_scale([-0.5, 2.0, *(u for trace in traces for u in trace["u"])])
    low, high = scale["domain"]
    window = []
    for trace in traces[:1]:
        for t, width in enumerate(trace["alpha"] * (T if len(trace["alpha"]) == 1 else 1), 1):
            half = (width or 0.0) / 2
            band = {"low": max(1 - half, low), "high": min(1 + half, high)}
            window += [{"x": t - 0.5, **band}, {"x": t + 0.5, **band}]
    rows = []
    for trace in reversed(traces):
        where = ", ".join(map(str, trace["neuron"]))
        spikes = sum(u is not None and u >= 1 for u in trace["u"])
        told = f"neuron {where}: {trace['role']}, {spikes} spikes"
        name = NAMES[ROLES.get(trace["role"], 0)]
        rows += [{**row, "line": told} for row in line_rows(name, trace["u"], "timestep")]
    chart = line_chart("", rows, legend, "timestep", scale, window, [{"y": 1}])
    chart["encoding"]["x"]["scale"] = {"domain": [0.5, T + 0.5]}
    chart["encoding"]["y"]["axis"]["title"] = "u / v_th"
    return {**chart, "width": WIDTH, "height": POTENTIALS}
