"""Gradient-flow figures: their registry kind ``picture``, lines by layer and over training, and sheets of panels as files."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any

from lsgcli import registry
from lsgcli.analysis.measures import MEASURES, value
from lsgcli.analysis.measures import text as value_text
from lsgcli.registry import register
from lsgcli.report.charts import Legend, Values, drawable, line_chart, line_rows, over_runs, y_scale
from lsgcli.report.drawing import ADVANCE, Spec, Style, ordered, shortened, styles
from lsgcli.store.flows import HISTORY
from lsgcli.system.schema import Record

Flow = Record  # a gradient-flow record
TITLE = 16
SMALL = 11
ACROSS = 884  # default width of a sheet, pixels
POINT = 60  # area of a point of a layer, pixels
NAMED = 20  # layers up to which a legend names them
EVALUATED = "On the validation split, or the test part if there is none."


@dataclass(frozen=True)
class Panel:
    """One chart of a picture, with title and note.

    Attributes:
        chart: None if there are no data.
        layer: number of the layer, if it shows a single layer.
        width: of the chart, pixels.
    """

    chart: Spec | None
    title: str = ""
    note: str = ""
    layer: int | None = None
    width: float = 436


@dataclass(frozen=True)
class View:
    """Panels shown together. A picture has one view, or several to choose from.

    Attributes:
        name: of the choice; that of the picture if it is the only or the main one.
        panels: row by row.
        columns: number of columns; 0 for as many as fit.
        legend: styles of the lines by their names.
    """

    name: str
    panels: Sequence[Panel]
    columns: int = 0
    legend: Legend = field(default_factory=dict)


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
    return partial(Picture, title, shows, hides)


def labels(flows: Sequence[Flow]) -> list[str]:
    """Short distinct names of checkpoints: the methods if distinct, otherwise also the parts of their paths that not all share, or numbers."""
    methods = [str(flow.get("method") or "network") for flow in flows]
    if len(set(methods)) == len(methods):
        return methods
    paths = [PurePath(str(flow.get("checkpoint") or "")).parts for flow in flows]
    common = set(paths[0]).intersection(*paths[1:])
    names = []
    for method, path in zip(methods, paths, strict=True):
        own = "/".join(part for part in path if part not in common)
        names.append(f"{method} {own}".rstrip())
    return [f"{name} {number}" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


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
    "the input indicates vanishing gradients, an increasing norm exploding ones. A norm of 0 is at the bottom.",
    hides="Whether the direction of the gradient is useful, because a surrogate gradient is not the gradient of the loss. Layers of different "
    "sizes have different norms even without vanishing or exploding.",
)
def gradient_norm(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """On a logarithmic scale."""
    return [by_layer("gradient-norm", flows, labels, "grad_norm", log=True)]


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
    "epoch of the checkpoint's run, if any of them changes; from blue at the input to orange at the output.",
    hides="Whether a change improved the result: this is a single run with one seed. If the method derives alpha from beta, both show the "
    "same changes on different scales.",
)
def training(flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
    """Figures 6 and 7 of Lian et al. (IJCAI 2023), beta and alpha, and further measures: a row for each, and a column per checkpoint."""
    histories = [(flow.get("history") or {"layers": {}})["layers"] for flow in flows]
    panels = []
    legend: Legend = {}
    for key in HISTORY:
        title = MEASURES[key].title
        log = key == "grad_norm"
        shown = [layer.get(key, ()) for history in histories for layer in history.values()]
        if not any(moves(values) for values in shown):
            continue
        scale = y_scale((v for values in shown for v in values), log)
        for history, label in zip(histories, labels, strict=True):
            lines = {f"layer {number} {name}": history[name].get(key, ()) for number, name in enumerate(history, 1)}
            legend = dict(zip(lines, ordered(len(lines)), strict=True))
            rows = [row for name, values in lines.items() for row in line_rows(name, values, "epoch", log)]
            why = "" if history else "No gradient-flow.jsonl in the directory of this checkpoint."
            heading = title if len(flows) == 1 else f"{title}, {label}"
            panels.append(Panel(_chart(title, rows, legend, "epoch", scale), heading, why))
    if len(flows) > 1 or len(legend) > NAMED:
        legend = {}
    return [View("training", panels, len(flows) if len(flows) > 1 else 0, legend)] if panels else []


def moves(values: Values) -> bool:
    """Whether any two values differ to the eye."""
    return len({f"{value:.4g}" for value in values if value is not None}) > 1


def evaluated(epochs: Sequence[Mapping[str, Any]], measure: str) -> Values:
    """Accuracy or loss over the epochs, see :data:`EVALUATED`."""
    return [epoch.get(f"val_{measure}", epoch.get(f"test_{measure}")) for epoch in epochs]


def curves(
    title: str,
    groups: Mapping[str, Sequence[Values]],
    x_label: str = "epoch",
    note: str = "",
    looks_of: Callable[[int], Sequence[Style]] = styles,
) -> View:
    """A chart of a line for each group of runs over 1, 2, 3, ...: their mean, with a band of one standard deviation.

    Args:
        groups: name -> the values of each run.
        looks_of: the styles of so many lines.
    """
    legend = dict(zip(groups, looks_of(len(groups)), strict=True))
    rows = []
    for name, runs in groups.items():
        means, deviations = over_runs(runs)
        rows += line_rows(name, means, x_label, std=deviations)
    ends = [row.get(key) for row in rows for key in ("y", "low", "high")]
    if any("low" in row for row in rows):
        note = f"Mean and standard deviation of up to {max(map(len, groups.values()))} runs. {note}"
    return View(title, [Panel(_chart(title, rows, legend, x_label, y_scale(ends)), title, note)], legend=legend)


def _chart(title: str, rows: Sequence[Spec], legend: Legend, x_label: str, scale: Spec) -> Spec | None:
    """Lines over 1, 2, 3, ...; None if there are no values."""
    if not any(row["y"] is not None for row in rows):
        return None
    return line_chart(f"{title} by {x_label}", rows, legend, x_label, scale)


def by_layer(name: str, flows: Sequence[Flow], labels: Sequence[str], key: str, *, log: bool = False) -> View:
    """A line per checkpoint for a measure over the number of the layer; a red ring marks layers whose verdict is not ok.

    Args:
        name: of the view.
        key: of the measure.
        log: on a logarithmic scale, where values of 0 are at the bottom; otherwise from 0.
    """
    scale = y_scale((value(layer, key) for flow in flows for layer in flow["layers"]), log, zero=not log)
    legend = dict(zip(labels, styles(len(flows)), strict=True))
    rows: list[Spec] = []
    for flow, label in zip(flows, labels, strict=True):
        for number, layer in enumerate(flow["layers"], 1):
            shown = value(layer, key)
            row: Spec = {"name": label, "line": label, "x": number, "y": shown if drawable(shown, log) else None}
            if shown is not None:
                row["at"] = shown if row["y"] == shown else scale["domain"][0]
                row["ring"] = layer["verdict"] != "ok"
                row["tip"] = f"layer {number}, {label}, {layer['name']}: {value_text(layer, key)}, {layer['verdict']}"
                row["size"] = POINT
            rows.append(row)
    chart = line_chart(f"{MEASURES[key].title} by layer: {', '.join(labels)}", rows, legend, "layer, from the input", scale)
    return View(name, [Panel(chart)], legend=legend)


def sheets(flows: Sequence[Flow]) -> dict[str, Spec]:
    """The figures by file name, each with title, legend and all panels."""
    names = labels(flows)
    found = {}
    for name, one in registry.every("picture").items():
        for view in one.views(flows, names):
            if view.name == name:
                found[name] = sheet(one.title, view)
            else:
                file = re.sub("[^a-z0-9]+", "-", f"{name} {view.name}".lower()).strip("-")
                found[file] = sheet(f"{one.title}: {view.name}", view)
    return found


def sheet(title: str, view: View) -> Spec:
    """The panels of a view in columns, below a title, if any, and a legend."""
    width = max(panel.width for panel in view.panels)
    columns = min(len(view.panels), view.columns or max(1, int(ACROSS // width)))
    chart: Spec = {"concat": [_cell(panel) for panel in view.panels], "columns": columns, "description": title or view.name}
    if title:
        chart["title"] = {"text": title, "fontSize": TITLE, "offset": 12}
    if len(view.legend) < 2:
        return {**chart, "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}}}
    room = 50 + ADVANCE * 12 * max(map(len, view.legend))
    legend = {"disable": False, "columns": max(1, int(columns * width / room)), "labelLimit": columns * width}
    return {**chart, "config": {"legend": legend}}


def _cell(panel: Panel) -> Spec:
    """A chart with its title and its note above it."""
    chart = panel.chart or {"data": {"values": []}, "mark": "text", "width": 200, "height": 20}
    note = textwrap.wrap(panel.note, int(panel.width / (ADVANCE * SMALL)), break_on_hyphens=False)
    title = shortened(panel.title, panel.width, SMALL)
    return {**chart, "title": {"text": title, "subtitle": note}}
