"""Activity of one sample in each layer: a raster of spikes above the membrane potentials of a few neurons."""

from collections.abc import Sequence

from lsgcli.registry import register
from lsgcli.report.charts import Axes, Scale
from lsgcli.report.drawing import Drawing, Mark, area, box, dots, group, line, styles, text
from lsgcli.report.figures import Flow, Panel, View, layer_views, picture
from lsgcli.report.tables import formatted

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
Layer = Flow  # the record of a layer
Trace = Flow  # the record of a neuron


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

    def panel(layer: Layer, index: int, title: str) -> Panel:
        note = _note(layer, activities[index]["sample"])
        return Panel(_draw(layer, f"{title}: {note}"), title, note)

    legend = list(zip(NAMES, styles(len(NAMES)), strict=True))
    return layer_views("raster", [activity["layers"] for activity in activities], labels, panel, legend)


def _note(layer: Layer, sample: int) -> str:
    shown = len(layer["spikes"])
    n = layer["neurons"]
    rate = formatted(layer["firing_rate"], ".3f")
    which = "all shown" if shown >= n else f"{shown} shown, evenly chosen"
    return f"Sample {sample}: {layer['active'] / max(1, n):.1%} of {n:,} neurons fire, rate {rate}; {which}"


def _draw(layer: Layer, label: str) -> Drawing:
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


def _potentials(traces: Sequence[Trace], T: int) -> list[Mark]:
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
