"""Gradient-flow records as HTML tables, with definitions of their columns and rules of the verdicts."""

from html import escape
from typing import Any

from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.report.page import scrolling
from lsgcli.verdicts import RULES, rule_text


def table(flow: dict[str, Any], label: str, link: str = "") -> str:
    """Table of all measures of all layers.

    Args:
        label: description of the network.
        link: link target of layer names, with {} for the layer's number.
    """
    shown = present(flow["layers"])
    head = '<th scope="col">layer</th><th scope="col" class="text">verdict</th>' + "".join(
        f'<th scope="col"><abbr title="{escape(m.described)}">{escape(m.title)}</abbr></th>' for m in shown.values()
    )
    rows = ""
    for number, layer in enumerate(flow["layers"], 1):
        name = f"{number} {escape(str(layer['name']))}"
        name = f'<a href="{link.format(number)}">{name}</a>' if link else name
        cells = "".join(f"<td>{escape(text(layer, key))}</td>" for key in shown)
        rows += f'<tr data-layer="{number}"><th scope="row">{name}</th>{_verdict(layer)}{cells}</tr>'
    return scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", f"Measures of {label}")


def summary(flow: dict[str, Any]) -> str:
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


def thresholds(flow: dict[str, Any]) -> str:
    """Rules of the verdicts, in order of precedence."""
    limits = flow.get("thresholds") or {}
    rules = [
        f"{name}: {rule_text(name, limit, MEASURES[RULES[name]['measure']].title)}"
        for name, limit in limits.items()
        if name in RULES
    ]
    return escape("; ".join([*rules, "ok: otherwise"])) if rules else "not in this record"


def glossary() -> str:
    """Definitions of the columns."""
    return "<dl>" + "".join(f"<dt>{escape(m.title)}</dt><dd>{escape(m.described)}</dd>" for m in MEASURES.values()) + "</dl>"


def _verdict(layer: dict[str, Any]) -> str:
    if layer["verdict"] == "ok":
        return '<td class="text">✓ ok</td>'
    return f'<td class="text bad">! {escape(layer["verdict"])}: {escape(layer["reason"])}</td>'
