"""Self-contained HTML pages: the report of a run, and the gradient flow of checkpoints.

Style, script and data are embedded, and the policy of a page forbids loading anything else.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files as resources
from typing import Any

from lsgcli import files
from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.report.charts import legend, line_chart
from lsgcli.report.colours import DARK, LIGHT, styles
from lsgcli.report.figures import Flow, Panel, Picture, View, labels, pictures
from lsgcli.rundir import RunDir
from lsgcli.verdicts import RULES, rule_text

SAME = {"T": "timesteps", "threshold": "threshold v_th", "batches": "mini-batches"}


def document(title: str, body: str, data: Mapping[str, Any], script: str = "") -> str:
    """An HTML document.

    Args:
        title: title of the window.
        body: HTML.
        data: data of the page, embedded as JSON in elements with these ids.
        script: name of a file in ``static`` that adds interaction; the page must be complete without it.
    """
    code = _static(script) if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    light, dark = (":root{" + "".join(f"--{k}:{v};" for k, v in colours.items()) + "}" for colours in (LIGHT, DARK))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><title>'
        f"{escape(title)}</title><style>{light}@media screen and (prefers-color-scheme:dark){{{dark}}}{_static('page.css')}</style>"
    )
    tail = ""
    for name, value in data.items():  # with < escaped, so that no data can start a tag or comment
        content = json.dumps(files.finite(value)).replace("<", "\\u003c")
        tail += f'<script type="application/json" id="{name}">{content}</script>'
    tail += f"<script>{code}</script>" if code else ""
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{tail}</body></html>\n'


def _static(name: str) -> str:
    return resources("lsgcli.report").joinpath("static", name).read_text(encoding="utf-8")


def scrolling(content: str, label: str) -> str:
    """Wrap content that may be wider than the window in a scrolling box, which is also accessible by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'


def by_epoch(
    title: str, lines: Mapping[str, Sequence[float | None]], label: str, caption: str = "", *, log: bool = False
) -> str:
    """A figure with a chart over the epochs, whose y axis has a label."""
    chart = line_chart(lines, x_label="epoch", y_label=label, x_first=1, log=log)
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h2>{escape(title)}</h2>{chart}{note}</figure>"


def run_page(run: RunDir, end: dict[str, Any], flow: Flow) -> str:
    """``report.html``, the page of a finished run.

    Args:
        run: run directory with configuration and per-epoch records.
        end: final record of the run.
        flow: full gradient-flow record of the final network.
    """
    settings = json.loads(run.config_file.read_text(encoding="utf-8"))["settings"]
    epochs = files.read_json_lines(run.metrics_file)
    layers = [line["layers"] for line in files.read_json_lines(run.gradient_flow_file)]
    title = f"{settings['dataset']}, {settings['arch']}, {settings['method']}, T={settings['T']}, seed {settings['seed']}"
    split = end["best_chosen_on"]
    source = "best epoch on the validation split" if split == "val" else "last epoch, no validation split"

    def of_run(measure: str) -> dict[str, list[float | None]]:
        return {part: [epoch[f"{part}_{measure}"] for epoch in epochs] for part in ("train", split)}

    def of_layers(key: str) -> dict[str, list[float | None]]:
        names = [layer["name"] for layer in layers[0]] if layers else []
        return {name: [epoch[index][key] for epoch in layers] for index, name in enumerate(names)}

    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Test accuracy <b>{100 * end['accuracy']:.2f} %</b> ({source}). Last epoch {100 * end['test_accuracy_last']:.2f} %, best epoch "
        f"{100 * end['test_accuracy_best']:.2f} % (epoch {end['best_epoch'] + 1}). A single seed does not allow conclusions about a method.</p>",
        '<div class="pair">',
        by_epoch("Accuracy", of_run("accuracy"), "accuracy"),
        by_epoch("Loss", of_run("loss"), "loss", f"train: training loss; {split}: cross-entropy of mean logits."),
        by_epoch("Decay beta", of_layers("beta"), "beta", "One line per layer, in order from the input."),
        by_epoch("Surrogate width alpha", of_layers("alpha"), "alpha", "In units of u."),
        by_epoch(
            "Coverage", of_layers("coverage"), "coverage", "Fraction of u inside v_th +- alpha/2, last step of each epoch."
        ),
        by_epoch("Gradient norm", of_layers("grad_norm"), "|dL/dW|", "L2 norm of dL/dW, last step of each epoch.", log=True),
        f"</div><h2>Gradient flow of the final network</h2>{_summary(flow)}{_measures(flow, 'the final network')}",
        f'<p class="note">Measured on {flow["batches"]} mini-batches of training data, with forward and backward passes as in training. '
        "u in units of v_th. For figures, use <code>lsg inspect-gradients CHECKPOINT --html FILE</code>.</p>",
        f"<details><summary>Definitions of the columns</summary>{_glossary()}</details>",
        f"<h2>Settings</h2><pre>{escape(json.dumps(settings, indent=1))}</pre>",
    ]
    return document(title, "".join(sections), {"data": {"end": end, "epochs": epochs, "flow": flow}})


def flow_page(flows: Sequence[Flow]) -> str:
    """The gradient flow of one or several checkpoints.

    Args:
        flows: records of :func:`lsgcli.analysis.inspect`, each with its ``checkpoint`` and ``method``.
    """
    names = labels(flows)
    title = f"Gradient flow: {', '.join(names)}"
    body = f"<header><h1>{escape(title)}</h1>{introduction(flows)}</header>{sections(flows, names)}"
    return document(title, body, {"flows": list(flows)}, "flow.js")


def introduction(flows: Sequence[Flow]) -> str:
    """What is measured, and a warning if the records are not comparable."""
    unlike = [name for key, name in SAME.items() if len({str(flow.get(key)) for flow in flows}) > 1]
    if len({tuple(layer["name"] for layer in flow["layers"]) for flow in flows}) > 1:
        unlike.append("layers")
    warning = (
        f'<p class="bad">! Not directly comparable: these checkpoints differ in {", ".join(unlike)}.</p>' if unlike else ""
    )
    return (
        "<p>Signal and gradient of each layer of spiking neurons, measured on mini-batches of training data, with forward and backward "
        f"passes as in training.</p>{warning}"
    )


def sections(flows: Sequence[Flow], names: Sequence[str]) -> str:
    """Sections for records of checkpoints called ``names``; the page embeds the records as ``flows``."""
    shown = [(name, picture, picture.views(flows, names)) for name, picture in pictures().items()]
    links = [(name, picture.title) for name, picture, _ in shown] + [("table", "All measures"), ("meaning", "Definitions")]
    parts = [
        f'<div class="cards">{"".join(map(_card, flows, names, (style.colour for style in styles(len(flows)))))}</div>',
        f'<nav aria-label="Sections">{"".join(f"""<a href="#{name}">{escape(text)}</a>""" for name, text in links)}</nav><main>',
        *(_section(name, picture, views) for name, picture, views in shown),
        '<section><h2 id="table">All measures</h2>',
    ]
    for flow, name in zip(flows, names, strict=True):
        rules = [
            f"{verdict}: {rule_text(verdict, limit, MEASURES[RULES[verdict]['measure']].title)}"
            for verdict, limit in (flow.get("thresholds") or {}).items()
            if verdict in RULES
        ]
        limits = escape("; ".join([*rules, "ok: otherwise"])) if rules else "not in this record"
        note = f'<p class="note">Verdicts, the first that applies: {limits}. u in units of v_th.</p>'
        parts.append(f"<h3>{escape(name)}</h3>{_measures(flow, name, '#potential-{}')}{note}")
    parts += [
        f'</section><section><h2 id="meaning">Definitions</h2>{_glossary()}</section></main>',
        '<footer><p class="note">The records of this page are embedded as JSON in the element with the id "flows".</p></footer>',
    ]
    return "".join(parts)


def _card(flow: Flow, name: str, colour: str) -> str:
    loss = "-" if flow.get("loss") is None else f"{flow['loss']:.4f}"
    facts = f"T = {flow['T']}, {len(flow['layers'])} layers, {flow['batches']} mini-batches, loss {loss}"
    path = f'<p class="path">{escape(str(flow["checkpoint"]))}</p>' if flow.get("checkpoint") else ""
    body = f"<h2>{escape(name)}</h2><p>{facts}</p>{_summary(flow)}{path}"
    return f'<div class="card" style="border-color:{colour}">{body}</div>'


def _summary(flow: Flow) -> str:
    """Number of layers that are ok, and verdicts of the others."""
    layers = flow["layers"]
    ill = [
        f"{number} {layer['name']} is {layer['verdict']} ({layer['reason']})"
        for number, layer in enumerate(layers, 1)
        if layer["verdict"] != "ok"
    ]
    if not ill:
        return f'<p class="ok">✓ {"all layers are" if len(layers) > 1 else "the layer is"} ok</p>'
    return f'<p class="bad">! {len(ill)} of {len(layers)} layers not ok</p><p>{escape("; ".join(ill))}</p>'


def _measures(flow: Flow, label: str, link: str = "") -> str:
    """Table of all measures of all layers, whose names link to ``link`` with {} for the number of the layer."""
    shown = present(flow["layers"])
    head = '<th scope="col">layer</th><th scope="col" class="text">verdict</th>' + "".join(
        f'<th scope="col"><abbr title="{escape(m.described)}">{escape(m.title)}</abbr></th>' for m in shown.values()
    )
    rows = ""
    for number, layer in enumerate(flow["layers"], 1):
        name = f"{number} {escape(str(layer['name']))}"
        name = f'<a href="{link.format(number)}">{name}</a>' if link else name
        verdict = '<td class="text">✓ ok</td>'
        if layer["verdict"] != "ok":
            verdict = f'<td class="text bad">! {escape(layer["verdict"])}: {escape(layer["reason"])}</td>'
        cells = "".join(f"<td>{escape(text(layer, key))}</td>" for key in shown)
        rows += f'<tr data-layer="{number}"><th scope="row">{name}</th>{verdict}{cells}</tr>'
    return scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", f"Measures of {label}")


def _glossary() -> str:
    """Definitions of the columns."""
    return "<dl>" + "".join(f"<dt>{escape(m.title)}</dt><dd>{escape(m.described)}</dd>" for m in MEASURES.values()) + "</dl>"


def _section(name: str, picture: Picture, views: Sequence[View]) -> str:
    """A picture with heading, description and limitations; several views are selectable without a script."""
    drawn = [_view(view, name, picture.title) for view in views]
    body = "".join(drawn) or "<p>These records contain no data for this figure.</p>"
    if len(drawn) > 1:
        choices = [
            f'<input type="radio" name="{name}" id="{name}-{i}"{" checked" if i == 0 else ""}><label for="{name}-{i}">{escape(view.name)}</label>'
            for i, view in enumerate(views)
        ]
        rules = "".join(f"#{name}-{i}:checked~.view-{i}{{display:block}}" for i in range(len(views)))
        bodies = "".join(f'<div class="view view-{i}">{part}</div>' for i, part in enumerate(drawn))
        body = f'<style>{rules}</style><div class="choice" role="group" aria-label="Measure">{"".join(choices)}{bodies}</div>'
    hides = f'<p class="hides">Not shown: {escape(picture.hides[:1].lower() + picture.hides[1:])}</p>'
    narrow = ' class="narrow"' if all(len(view.panels) == 1 and not view.natural for view in views) and views else ""
    return f'<section{narrow}><h2 id="{name}">{escape(picture.title)}</h2><p>{escape(picture.shows)}</p><div>{body}</div>{hides}</section>'


def _view(view: View, name: str, title: str) -> str:
    first = {panel.layer: index for index, panel in reversed(list(enumerate(view.panels)))}  # of each layer
    panels = "".join(
        _panel(panel, view, f"{name}-{panel.layer}" if panel.layer and first[panel.layer] == index else "")
        for index, panel in enumerate(view.panels)
    )
    kind, style = "", ""
    if view.natural:
        kind = " natural"
    elif view.columns == 0 and len(view.panels) > 1:
        kind = " many"
    elif view.columns > 1:
        widths = "150px,260px" if len(view.panels) > 2 * view.columns else "260px,1fr"
        style = f' style="grid-template-columns:repeat({view.columns},minmax({widths}))"'
    content = f'<div class="panels{kind}"{style}>{panels}</div>'
    return (legend(view.legend) if view.legend else "") + (scrolling(content, title) if style else content)


def _panel(panel: Panel, view: View, anchor: str) -> str:
    heading = f"<h3>{escape(panel.title)}</h3>" if panel.title else ""
    note = f"<figcaption>{escape(panel.note)}</figcaption>" if panel.note else ""
    drawing = panel.drawing.element() if panel.drawing else ""
    if panel.drawing and view.natural:
        drawing = scrolling(f'<div style="width:{panel.drawing.width:g}px">{drawing}</div>', panel.title or view.name)
    mark = f' data-layer="{panel.layer}"' if panel.layer else ' class="line"'
    place = f' id="{anchor}"' if anchor else ""
    return f"<figure{place}{mark}>{heading}{drawing}{note}</figure>"
