"""Self-contained HTML pages, with embedded style, script and data; their policy forbids loading anything else."""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files as resources
from typing import Any

from lsgcli.files import finite
from lsgcli.report.colours import DARK, LIGHT


def page(title: str, body: str, data: Mapping[str, Any], script: str = "") -> str:
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
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_colours()}{_static('page.css')}</style>"
    )
    tail = "".join(f'<script type="application/json" id="{name}">{embedded(value)}</script>' for name, value in data.items())
    tail += f"<script>{code}</script>" if code else ""
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}{tail}</body></html>\n'


def embedded(value: Any) -> str:
    """JSON for a script element, with ``<`` escaped so that no data can start a tag or comment."""
    return json.dumps(finite(value)).replace("<", "\\u003c")


def scrolling(content: str, label: str) -> str:
    """Wrap content that may be wider than the window in a scrolling box, which is also accessible by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>'


def _colours() -> str:
    def block(colours: Mapping[str, str]) -> str:
        return ":root{" + "".join(f"--{name}:{value};" for name, value in colours.items()) + "}"

    return f"{block(LIGHT)}@media screen and (prefers-color-scheme:dark){{{block(DARK)}}}"


def _static(name: str) -> str:
    return resources("lsgcli.report").joinpath("static", name).read_text(encoding="utf-8")
