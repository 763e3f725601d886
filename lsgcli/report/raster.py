"""Activity of one sample in each layer: a raster of spikes above the membrane potentials of a few neurons."""

from collections.abc import Sequence

from lsgcli.registry import register
from lsgcli.report.charts import Axes, Scale, whole_ticks
from lsgcli.report.drawing import Drawing, Mark, area, box, dot, dots, group, line, styles, text
from lsgcli.report.figures import Flow, Panel, View, layer_panels, picture
from lsgcli.report.tables import formatted

WIDTH, LEFT, RIGHT = 284, 50, 6
HEAD, RASTER, GAP, POTENTIALS, FOOT = 20, 120, 32, 90, 34  # heights
SIZE = 11  # pixels of text
SEPARATE = 6  # pixels between timesteps above which potentials have dots at spikes
LEAST = 2.0  # diameter of a spike, pixels, unless timesteps are closer
BELOW, ABOVE = -1.0, 3.0  # u / v_th up to which the surrogate's interval is always shown
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
    "and a dot for each spike. Below, the membrane potential u before the reset of three neurons, in units of the threshold; dots mark spikes of up to 38 timesteps. Horizontal line: "
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

    panels = layer_panels([activity["layers"] for activity in activities], labels, panel)
    if not panels:
        return []
    legend = list(zip(NAMES, styles(len(NAMES)), strict=True))
    return [View("raster", panels, len(flows) if len(flows) > 1 else 0, legend=legend, least=240)]


def _note(layer: Layer, sample: int) -> str:
    shown, n = len(layer["spikes"]), layer["neurons"]
    rate = formatted(layer["firing_rate"], ".3f")
    which = "all shown" if shown >= n else f"{shown} shown, evenly chosen"
    return f"Sample {sample}: {layer['active'] / max(1, n):.1%} of {n:,} neurons fire, rate {rate}; {which}"


def _draw(layer: Layer, label: str) -> Drawing:
    """The raster above the potentials, with a common axis of timesteps."""
    rows, traces = layer["spikes"], layer["traces"]
    T = max([len(row) for row in rows] + [len(trace["u"]) for trace in traces] + [1])
    inside = WIDTH - LEFT - RIGHT
    step, pitch = inside / T, max(1, 10 * RASTER // max(1, len(rows))) / 10
    floor = HEAD + pitch * len(rows)
    marks = [box((LEFT, HEAD), inside, floor - HEAD, "shade"), text((2, 12), "neuron", "ink", SIZE)]
    spikes = []
    for number, row in enumerate(rows):
        y = HEAD + (number + 0.5) * pitch
        for t, spike in enumerate(row):
            if spike == "1":
                spikes.append((LEFT + (t + 0.5) * step, y))
    marks.append(dots(spikes, min(max(pitch, LEAST), step), "ink"))
    marks.append(text((LEFT - 6, HEAD + 9), "1", size=SIZE, anchor="end"))
    if len(rows) > 1:
        marks.append(text((LEFT - 6, floor), f"{layer['neurons']:,}", size=SIZE, anchor="end"))
    top = floor + GAP
    axes = Axes(WIDTH, top + POTENTIALS + FOOT, Scale(0.5, T + 0.5), _scale(traces), LEFT, RIGHT, top, FOOT)
    marks += _potentials(axes, traces, [t + 1 for t in whole_ticks(T)])
    return Drawing(WIDTH, axes.height, marks, f"Spikes and membrane potentials of one sample in layer {label}")


def _potentials(axes: Axes, traces: Sequence[Trace], ticks: Sequence[int]) -> list[Mark]:
    """Window, threshold and potentials of each neuron."""
    low, high = axes.y.low, axes.y.high
    left, right = axes.x.low, axes.x.high
    marks = axes.frame(ticks, "timestep", "u / v_th")
    for widths in {tuple(trace["alpha"]) for trace in traces}:
        upper, lower = [], []
        for t, width in enumerate(widths):
            ends = (t + 0.5, t + 1.5) if len(widths) > 1 else (left, right)  # a width for all timesteps
            half = (width or 0.0) / 2
            upper += [axes.at(end, min(1 + half, high)) for end in ends]
            lower += [axes.at(end, max(1 - half, low)) for end in ends]
        marks.append(area([*upper, *reversed(lower)], "ink", 0.09))
    marks.append(line([axes.at(left, 1), axes.at(right, 1)], "ink", 1.5))
    looks = styles(len(NAMES))
    sparse = axes.at(1, 0)[0] - axes.at(0, 0)[0] >= SEPARATE
    for trace in reversed(traces):
        style = looks[ROLES.get(trace["role"], 0)]
        points = list(enumerate(trace["u"], 1))
        spikes = [(t, u) for t, u in points if u is not None and u >= 1]
        own = axes.line(points, style, width=2 if sparse else 1)
        if sparse:
            own += [dot(axes.at(t, u), style.colour, style.shape, 3) for t, u in spikes]
        where = ", ".join(map(str, trace["neuron"]))
        marks.append(group(own, f"neuron {where}: {trace['role']}, {len(spikes)} spikes"))
    return marks


def _scale(traces: Sequence[Trace]) -> Scale:
    """A scale for all potentials, 0, the threshold, and the window unless it is wide."""
    widest = max((width for trace in traces for width in trace["alpha"] if width is not None), default=0.0)
    low, high = min(0.0, max(BELOW, 1 - widest / 2)), max(1.0, min(ABOVE, 1 + widest / 2))
    for trace in traces:
        known = [u for u in trace["u"] if u is not None]
        low, high = min([low, *known]), max([high, *known])
    margin = 0.05 * (high - low)
    return Scale(low - margin, high + margin)
