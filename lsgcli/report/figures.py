"""Gradient-flow figures: their registry kind ``picture``, lines by layer and over training, and sheets of panels as files."""

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import PurePath
from typing import Any

from lsgcli import registry
from lsgcli.analysis.measures import MEASURES, value
from lsgcli.analysis.measures import text as value_text
from lsgcli.registry import register
from lsgcli.report.charts import Axes, Legend, Line, Scale, drawable, drawn_legend, line_drawing, whole_ticks
from lsgcli.report.drawing import ADVANCE, Drawing, Mark, Style, box, dot, group, line, ordered, shortened, styles, text
from lsgcli.store.flows import HISTORY

Flow = dict[str, Any]  # a gradient-flow record
WIDTH, HEIGHT = 420, 270  # of a chart by layer, pixels
MARGIN, GAP = 14, 16  # of a sheet, pixels
TITLE, SMALL = 16, 11
ACROSS = 880  # default width of a sheet
NAMED = 20  # layers up to which a legend names them
LEAST = 400  # width of a chart over training on a page, pixels


@dataclass(frozen=True)
class Panel:
    """One drawing of a picture, with title and note; ``drawing`` is None if there are no data."""

    drawing: Drawing | None
    title: str = ""
    note: str = ""
    layer: int | None = None  # number of the layer, if it shows a single layer


@dataclass(frozen=True)
class View:
    """Panels shown together. A picture has one view, or several to choose from.

    Attributes:
        name: of the choice; that of the picture if it is the only or the main one.
        panels: row by row.
        columns: number of columns; 0 for as many as fit.
        natural: drawings keep their size and scroll.
        legend: names of the lines.
        least: minimum width of a panel on a page, pixels; 0 for that of small panels.
    """

    name: str
    panels: Sequence[Panel]
    columns: int = 0
    natural: bool = False
    legend: Legend = ()
    least: int = 0

    @property
    def narrow(self) -> bool:
        """Whether it needs only half the width of a page."""
        return len(self.panels) == 1 and not self.natural


@dataclass(frozen=True)
class Picture:
    """A figure of one or several checkpoints.

    Attributes:
        title: its heading.
        shows: what it shows, in full sentences.
        hides: what it cannot show.
        views: draws the records of checkpoints with the given labels; empty if the records contain no data for it.
    """

    title: str
    shows: str
    hides: str
    views: Callable[[Sequence[Flow], Sequence[str]], list[View]]


def picture(title: str, *, shows: str, hides: str) -> Callable[[Callable[..., list[View]]], Picture]:
    """Decorator that makes a function from records and labels to views a :class:`Picture`."""
    return lambda views: Picture(title, shows, hides, views)


def labels(flows: Sequence[Flow]) -> list[str]:
    """Short distinct names of checkpoints: the methods if distinct, otherwise the differing parts of their paths."""
    methods = [str(flow.get("method") or "") for flow in flows]
    if all(methods) and len(set(methods)) == len(methods):
        return methods
    paths = [PurePath(str(flow.get("checkpoint") or "")).parts for flow in flows]
    common = set(paths[0]).intersection(*paths[1:]) if len(paths) > 1 else set(paths[0][:-1])
    names = []
    for method, path in zip(methods, paths, strict=True):
        differing = [part for part in path if part not in common]
        names.append(f"{method} {'/'.join(differing or path[-1:])}".strip() or "network")
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


@register("picture", "coverage")
@picture(
    "Coverage by layer",
    shows="Fraction of membrane potentials inside the surrogate's interval, where the rectangular surrogate is not zero.",
    hides="Whether higher coverage is better. A wider interval always covers more, but a wider surrogate is also lower: its mean E[h], the "
    "average factor on the gradient, does not necessarily increase.",
)
def coverage(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """Figure 5 of Lian et al. (IJCAI 2023), with an axis from 0; the mean surrogate gradient as second view."""
    return [by_layer("coverage", flows, labels, "coverage"), by_layer("mean surrogate E[h]", flows, labels, "sg_mean")]


@register("picture", "gradient-norm")
@picture(
    "Gradient norm by layer",
    shows="L2 norm of the gradient with respect to the input weights of each layer, on a logarithmic scale. A norm that decreases towards "
    "the input indicates vanishing gradients, an increasing norm exploding ones. Dotted lines are the limits of these findings, if "
    "in range.",
    hides="Whether the direction of the gradient is useful, because a surrogate gradient is not the gradient of the loss. Layers of different "
    "sizes have different norms even without vanishing or exploding.",
)
def gradient_norm(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """With a dotted line at the norms of vanishing and exploding, which are relative to the last layer's norm."""
    limits = []
    for flow in flows:
        last, thresholds = flow["layers"][-1]["grad_norm"], flow.get("thresholds") or {}
        limits.append([last * thresholds[name] for name in ("vanishing", "exploding") if last and name in thresholds])
    return [by_layer("gradient-norm", flows, labels, "grad_norm", limits=limits, log=True)]


@register("picture", "gain")
@picture(
    "Gain by layer",
    shows="Factor on the mean square of the gradient per neuron, from the spikes of each layer to those of the layer before, on a logarithmic "
    "scale. If all factors are below 1, gradients vanish towards the input; above 1, they explode. In a chain of layers, the factor is the gain "
    "(from the spikes to the input of the layer's weights) divided by k^4 where an average over k x k neurons lies between, of whose gradient "
    "each neuron receives 1/k^2. The gain without pooling, and predictions of it, are further views.",
    hides="What pooling does to gradients of weights: before a pool there are k^2 times as many neurons, so the sum of squares changes by k^-2 "
    "rather than k^-4. Of layers with a common input, such as q and k of an attention, the layer before is another branch. A factor of 1 does not "
    "imply a useful direction.",
)
def gain(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """The measured gain including the operations between layers; further views show it without them, and each prediction."""
    views = {
        "gain": "gain_between",
        "without pooling": "gain",
        "predicted": "gain_predicted.kaiming",
        "predicted from the weights": "gain_predicted.weights",
    }
    known = {key for flow in flows for layer in flow["layers"] for key in views.values() if value(layer, key) is not None}
    return [by_layer(name, flows, labels, key, log=True) for name, key in views.items() if key in known]


@register("picture", "training")
@picture(
    "Layers over training",
    shows="Decay, surrogate width, coverage, firing rate and gradient norm (on a logarithmic scale) of each layer in the last step of each "
    "epoch of the checkpoint's run; lines are numbered by layer, from blue at the input to orange at the output.",
    hides="Whether a change improved the result: this is a single run with one seed. If the method derives alpha from beta, both show the "
    "same changes on different scales.",
)
def training(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """Figures 6 and 7 of Lian et al. (IJCAI 2023), beta and alpha, and further measures: a row for each, and a column per checkpoint."""
    histories = [flow.get("history") or {"epochs": [], "layers": {}} for flow in flows]
    panels, legend = [], []
    for key in HISTORY:
        title = MEASURES[key].title
        moving = [layer for history in histories if _moves(history, key) for layer in history["layers"].values()]
        shown = [v for layer in moving for v in layer.get(key, ())]
        if not shown:
            continue
        y = Scale.over(shown, key == "grad_norm")
        for history, label in zip(histories, labels, strict=True):
            layers = history["layers"]
            if not _moves(history, key):
                why = f"{title}: constant over training."
                panels.append(
                    Panel(None, label, why if layers else "No gradient-flow.jsonl in the directory of this checkpoint.")
                )
                continue
            lines = []
            for number, (name, look) in enumerate(zip(layers, ordered(len(layers)), strict=True), 1):
                own = layers[name].get(key, ())
                lines.append(Line(f"{number} {name}", own, look, tip=f"layer {number} {name}", layer=number))
            drawing = line_drawing(lines, "epoch", title, history["epochs"][0] + 1, y)
            panels.append(Panel(drawing, label if len(flows) > 1 else ""))
            if len(flows) == 1 and len(lines) <= NAMED:
                legend = [(line.name, line.style) for line in lines]
    return [View("training", panels, len(flows) if len(flows) > 1 else 0, legend=legend, least=LEAST)] if panels else []


def _moves(history: Flow, key: str) -> bool:
    """Whether any layer has values of a measure that differ to the eye."""
    for layer in history["layers"].values():
        values = {f"{v:.4g}" for v in layer.get(key, ()) if drawable(v, key == "grad_norm")}
        if len(values) > 1:
            return True
    return False


def lines_view(name: str, lines: Sequence[Line], x_label: str, y_label: str, note: str = "") -> View:
    """A chart of lines over 1, 2, 3, ..., on a scale for all of their values and bands."""
    heading = name.lower()
    label = "" if heading.endswith(y_label) else y_label  # the heading says it
    drawing = line_drawing(lines, x_label, label, 1, Scale.over(value for line in lines for value in line.reach()))
    panel = Panel(drawing and replace(drawing, label=f"{heading} by {x_label}"), note=note)
    return View(name, [panel], legend=[(line.name, line.style) for line in lines])


def by_layer(
    name: str,
    flows: Sequence[Flow],
    labels: Sequence[str],
    key: str,
    *,
    limits: Sequence[Sequence[float]] = (),
    log: bool = False,
) -> View:
    """A line per checkpoint for a measure over the number of the layer; a ring marks layers whose verdict is not ok.

    Args:
        name: of the view.
        key: of the measure.
        limits: limits of findings for each checkpoint, drawn if within the scale.
        log: on a logarithmic scale, where values of 0 are the number 0 at the bottom; otherwise from 0.
    """
    title, n = MEASURES[key].title, max(len(flow["layers"]) for flow in flows)
    values = [[value(layer, key) for layer in flow["layers"]] for flow in flows]
    y = Scale.over((v for own in values for v in own), log=log, zero=not log)
    axes = Axes(WIDTH, HEIGHT, Scale(0.5, n + 0.5), y)
    marks = axes.frame([i + 1 for i in whole_ticks(n, 20)], "layer, from the input", "" if title == name else title)
    looks = styles(len(flows))
    for own, style, of_verdicts in zip(values, looks, limits or [()] * len(flows), strict=True):
        for limit in of_verdicts:
            if y.low <= limit <= y.high:
                marks.append(line([axes.at(0.5, limit), axes.at(n + 0.5, limit)], style.colour, 1, (1, 4)))
        marks += axes.line(list(enumerate(own, 1)), style, lone=False)
    for number in range(1, n + 1):
        (left, top), (right, floor) = axes.at(number - 0.5, y.high), axes.at(number + 0.5, y.low)
        column = [box((left, top), right - left, floor - top, "ink", 0)]  # enlarges the hover area
        tip = [f"layer {number}"]
        for flow, label, style in zip(flows, labels, looks, strict=True):
            for layer in flow["layers"][number - 1 : number]:
                column += _marker(axes, number, value(layer, key), style, layer["verdict"] == "ok")
                tip.append(f"{label}, {layer['name']}: {value_text(layer, key)}, {layer['verdict']}")
        marks.append(group(column, "\n".join(tip), number))
    drawing = Drawing(WIDTH, HEIGHT, marks, f"{title} by layer: {', '.join(labels)}")
    return View(name, [Panel(drawing)], legend=list(zip(labels, looks, strict=True)))


def _marker(axes: Axes, x: float, number: float | None, style: Style, ok: bool) -> list[Mark]:
    if number is None:
        return []
    if not drawable(number, axes.y.log):
        return [text((axes.at(x, axes.y.low)[0], HEIGHT - axes.bottom - 3), "0", style.colour, anchor="middle")]
    at = axes.at(x, number)
    ring = [] if ok else [dot(at, "bad", radius=8, ring=True)]
    return [dot(at, style.colour, style.shape), *ring]


def layer_panels(
    networks: Sequence[Sequence[Flow]], labels: Sequence[str], panel: Callable[[Flow, int, str], Panel]
) -> list[Panel]:
    """A panel for each layer of each network, a row per layer; empty where a network has fewer layers than another.

    Args:
        networks: records of the layers of each.
        panel: draws a record, of a network with this index, under this title.
    """
    suffixes = [f", {label}" if len(labels) > 1 else "" for label in labels]
    panels = []
    for number, row in enumerate(zip_longest(*networks), 1):
        for index, layer in enumerate(row):
            drawn = layer and panel(layer, index, f"{number} {layer['name']}{suffixes[index]}")
            panels.append(replace(drawn, layer=number) if drawn else Panel(None))
    return panels


def sheets(flows: Sequence[Flow]) -> dict[str, Drawing]:
    """The figures by file name, each with title, legend and all panels."""
    names = labels(flows)
    found = {}
    for name, one in registry.every("picture").items():
        for view in one.views(flows, names):
            main = view.name == name
            file = name if main else f"{name}-{re.sub('[^a-z0-9]+', '-', view.name.lower()).strip('-')}"
            found[file] = sheet(one.title if main else f"{one.title}: {view.name}", view)
    return found


def sheet(title: str, view: View) -> Drawing:
    """The panels of a view in columns, below a title, if any, and a legend."""
    cells = [_cell(panel) for panel in view.panels]
    wide, high = max(cell.width for cell in cells), max(cell.height for cell in cells)
    columns = min(len(cells), view.columns or max(1, int((ACROSS + GAP) / (wide + GAP))))
    width = 2 * MARGIN + columns * (wide + GAP) - GAP
    head = MARGIN + TITLE + 14 if title else MARGIN
    marks = [text((MARGIN, MARGIN + TITLE), shortened(title, width - 2 * MARGIN, TITLE), "ink", TITLE)] if title else []
    entries, height = drawn_legend(view.legend, width - 2 * MARGIN)
    marks.append(group(entries, at=(MARGIN, head)))
    top = head + height + 6
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        marks.append(group(cell.marks, at=(MARGIN + column * (wide + GAP), top + row * (high + GAP))))
    rows = -(-len(cells) // columns)
    return Drawing(width, top + rows * (high + GAP) - GAP + MARGIN, marks, title or view.name)


def _cell(panel: Panel) -> Drawing:
    """A panel with its title above and its note below."""
    if panel.drawing is None:
        return Drawing(200, 60, [text((0, 14), panel.title, "ink", SMALL + 1), *_lines(panel.note, 200, 34)], panel.title)
    drawing, head = panel.drawing, 20 if panel.title else 0
    marks = [text((0, 13), shortened(panel.title, drawing.width, SMALL + 1), "ink", SMALL + 1)] if head else []
    notes = _lines(panel.note, drawing.width, head + drawing.height + SMALL + 2)
    height = head + drawing.height + len(notes) * (SMALL + 4)
    return replace(drawing, height=height, marks=[*marks, group(drawing.marks, at=(0, head)), *notes])


def _lines(words: str, width: float, y: float) -> list[Mark]:
    """Text wrapped into lines."""
    wrapped = textwrap.wrap(words, int(width / (ADVANCE * SMALL)), break_on_hyphens=False)
    return [text((0, y + i * (SMALL + 4)), row, "soft", SMALL) for i, row in enumerate(wrapped)]
