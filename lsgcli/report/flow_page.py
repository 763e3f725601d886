"""``lsg inspect-gradients --html``: gradient flow of one or several checkpoints on a self-contained page."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lsgcli.report import flow_table
from lsgcli.report.charts import legend
from lsgcli.report.colours import styles
from lsgcli.report.page import page as document
from lsgcli.report.page import scrolling
from lsgcli.report.pictures.base import Panel, Picture, View, labels, pictures

SAME = {"T": "timesteps", "threshold": "threshold v_th", "batches": "mini-batches"}


def page(flows: Sequence[dict[str, Any]]) -> str:
    """The page.

    Args:
        flows: records of :func:`lsgcli.analysis.inspect`, each with its ``checkpoint`` and ``method``.
    """
    names = labels(flows)
    title = f"Gradient flow: {', '.join(names)}"
    body = f"<header><h1>{escape(title)}</h1>{introduction(flows)}</header>{sections(flows, names)}"
    return document(title, body, {"flows": list(flows)}, "flow.js")


def sections(flows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Sections for records of checkpoints called ``names``; the page embeds the records as ``flows``."""
    shown = [(name, picture, picture.views(flows, names)) for name, picture in pictures().items()]
    links = [(name, picture.title) for name, picture, _ in shown] + [("table", "All measures"), ("meaning", "Definitions")]
    parts = [
        f'<div class="cards">{"".join(map(_card, flows, names, (s.colour for s in styles(len(flows)))))}</div>',
        f'<nav aria-label="Sections">{"".join(f"""<a href="#{name}">{escape(text)}</a>""" for name, text in links)}</nav><main>',
        *(_section(name, picture, views) for name, picture, views in shown),
        f'<section><h2 id="table">All measures</h2>{"".join(map(_table, flows, names))}</section>',
        f'<section><h2 id="meaning">Definitions</h2>{flow_table.glossary()}</section></main>',
        '<footer><p class="note">The records of this page are embedded as JSON in the element with the id "flows".</p></footer>',
    ]
    return "".join(parts)


def introduction(flows: Sequence[dict[str, Any]]) -> str:
    """What is measured, and a warning if the records are not comparable."""
    text = (
        "Signal and gradient of each layer of spiking neurons, measured on mini-batches of training data, with forward and backward "
        "passes as in training."
    )
    unlike = [name for key, name in SAME.items() if len({str(flow.get(key)) for flow in flows}) > 1]
    if len({tuple(layer["name"] for layer in flow["layers"]) for flow in flows}) > 1:
        unlike.append("layers")
    warning = (
        f'<p class="bad">! Not directly comparable: these checkpoints differ in {", ".join(unlike)}.</p>' if unlike else ""
    )
    return f"<p>{text}</p>{warning}"


def _card(flow: dict[str, Any], name: str, colour: str) -> str:
    loss = "-" if flow.get("loss") is None else f"{flow['loss']:.4f}"
    facts = f"T = {flow['T']}, {len(flow['layers'])} layers, {flow['batches']} mini-batches, loss {loss}"
    path = f'<p class="path">{escape(str(flow["checkpoint"]))}</p>' if flow.get("checkpoint") else ""
    body = f"<h2>{escape(name)}</h2><p>{facts}</p>{flow_table.summary(flow)}{path}"
    return f'<div class="card" style="border-color:{colour}">{body}</div>'


def _section(name: str, picture: Picture, views: Sequence[View]) -> str:
    """A picture with heading, description and limitations; several views are selectable without a script."""
    drawn = [_view(view, name, picture.title) for view in views]
    if not drawn:
        body = "<p>These records contain no data for this figure.</p>"
    elif len(drawn) == 1:
        body = drawn[0]
    else:
        choices = [
            f'<input type="radio" name="{name}" id="{name}-{i}"{" checked" if i == 0 else ""}><label for="{name}-{i}">{escape(view.name)}</label>'
            for i, view in enumerate(views)
        ]
        rules = "".join(f"#{name}-{i}:checked~.view-{i}{{display:block}}" for i in range(len(views)))
        bodies = "".join(f'<div class="view view-{i}">{part}</div>' for i, part in enumerate(drawn))
        body = f'<style>{rules}</style><div class="choice" role="group" aria-label="Measure">{"".join(choices)}{bodies}</div>'
    hides = f'<p class="hides">Not shown: {_small(picture.hides)}</p>'
    narrow = ' class="narrow"' if all(len(view.panels) == 1 and not view.natural for view in views) and views else ""
    return f'<section{narrow}><h2 id="{name}">{escape(picture.title)}</h2><p>{escape(picture.shows)}</p><div>{body}</div>{hides}</section>'


def _view(view: View, name: str, title: str) -> str:
    first = {panel.layer: index for index, panel in reversed(list(enumerate(view.panels)))}  # of each layer
    panels = "".join(
        _panel(panel, view, f"{name}-{panel.layer}" if panel.layer and first[panel.layer] == index else "")
        for index, panel in enumerate(view.panels)
    )
    if view.natural:
        content = f'<div class="panels natural">{panels}</div>'
    elif view.columns == 0 and len(view.panels) > 1:
        content = f'<div class="panels many">{panels}</div>'
    elif view.columns > 1:
        widths = "150px,260px" if len(view.panels) > 2 * view.columns else "260px,1fr"
        grid = f'<div class="panels" style="grid-template-columns:repeat({view.columns},minmax({widths}))">{panels}</div>'
        content = scrolling(grid, title)
    else:
        content = f'<div class="panels">{panels}</div>'
    return (legend(view.legend) if view.legend else "") + content


def _panel(panel: Panel, view: View, anchor: str) -> str:
    heading = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
    note = f"<figcaption>{escape(panel.note)}</figcaption>" if panel.note else ""
    drawing = panel.drawing.element() if panel.drawing else ""
    if panel.drawing and view.natural:
        drawing = scrolling(f'<div style="width:{panel.drawing.width:g}px">{drawing}</div>', panel.title or view.name)
    mark = f' data-layer="{panel.layer}"' if panel.layer else ' class="line"'
    place = f' id="{anchor}"' if anchor else ""
    return f"<figure{place}{mark}>{heading}{drawing}{note}</figure>"


def _table(flow: dict[str, Any], name: str) -> str:
    note = f'<p class="note">Verdicts, the first that applies: {flow_table.thresholds(flow)}. u in units of v_th.</p>'
    return f"<h3>{escape(name)}</h3>{flow_table.table(flow, name, '#potential-{}')}{note}"


def _small(text: str) -> str:
    return escape(text[:1].lower() + text[1:])
