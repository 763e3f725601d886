"""Compile charts: Vega-Lite specifications become SVG on a page, and SVG, PNG and PDF files.

A chart is a dictionary in the grammar of Vega-Lite, from a template in ``static``, with its data inside and a ``description`` for
screen readers. A colour is a hexadecimal number or a CSS variable ``var(--NAME)`` of :data:`LIGHT`, which a page sets and which a
file replaces by its value. The font is one that the compiler contains and measures texts with, so files are equal on all machines.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lsgcli.report.compiler import compile_with
from lsgcli.system.files import finite, make_folder, replacing

Spec = dict[str, Any]

LIGHT = {
    "ink": "#1c2733",
    "soft": "#5b6875",
    "grid": "#d9dfe5",
    "ground": "#ffffff",
    "shade": "#eef2f6",
    "bad": "#b3261e",
    "strong": "#000000",
}
DARK = {
    "ink": "#e3e8ed",
    "soft": "#98a4b0",
    "grid": "#303943",
    "ground": "#14191f",
    "shade": "#1e252d",
    "bad": "#ff8a80",
    "strong": "#ffffff",
}

# The first four differ most in lightness, as far as contrast on both backgrounds permits. In print without colour, lines also
# differ by dashes.
COLOURS = ("#2f6fb5", "#de7908", "#b4559b", "#2a9a68", "#7c6ad6", "#c2413b", "#8a7a2f", "#3f979c")
DASHES = ((), (7, 3), (2, 3), (9, 3, 2, 3))
# Of cells, whose opacity says how much: black and white can both be read on them.
BLUE = "#2f78c4"
ORANGE = "#ad6200"
DEPTH = ((43, 104, 176), (191, 99, 168), (222, 121, 8))  # RGB of layers in their order, from the input; from dark to light

SUFFIXES = (".svg", ".png", ".pdf")
INCH = 135  # pixels in print: a chart fills a column of a journal, 3.3 in, and text of 12 pixels has 6.4 points
DPI = 300  # of PNG files
ADVANCE = 0.54  # mean width of a character, relative to the font size
# Empty marks, and attributes that texts inherit or that are the usual ones: half of an SVG.
SUPERFLUOUS = r'<path class="(?:fore|back)ground"[^>]* d="(?:M0,0h0v0h0Z)?"[^>]*/>| (?:opacity="1"|font-family="[^"]*"|pointer-events="none")'
ELEMENT = (
    '<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{label}" '
    'style="min-width:{least:.0f}px;max-width:{most:.0f}px">'
    "{marks}"
)
FILE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
    'font-family="{font}" role="img"><title>{label}</title><style>text{{pointer-events:none}}</style>{marks}'
)


class Style(NamedTuple):
    """Style of a line: its colour, and the lengths of its dashes and gaps."""

    colour: str
    dash: Sequence[float] = ()


def styles(n: int) -> list[Style]:
    """Styles for n unordered items, such as checkpoints. Without colour, four differ by their dashes."""
    return [Style(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i in range(n)]


def ordered(n: int) -> list[Style]:
    """Solid lines for n ordered items, such as layers."""
    places = np.linspace(0, 2, n)
    channels = [np.interp(places, (0, 1, 2), channel).astype(int) for channel in zip(*DEPTH, strict=True)]
    return [Style(f"#{red:02x}{green:02x}{blue:02x}") for red, green, blue in zip(*channels, strict=True)]


def shortened(words: str, width: float, size: float = 12) -> str:
    """Text shortened in the middle to a width in pixels, because names differ at the start or end."""
    room = max(4, int(width / (ADVANCE * size)))
    if len(words) <= room:
        return words
    half = (room - 1) // 2
    return f"{words[:half]}…{words[-half:]}"


def template(kind: str, **data: Sequence[Mapping[str, Any]]) -> Spec:
    """A chart of this kind, from its file in ``static``.

    Args:
        data: rows of the data sets that the file names.
    """
    text = (files("lsgcli.report") / "static" / f"{kind}.json").read_text(encoding="utf-8")
    return json.loads(text, object_hook=lambda found: {"values": data[found["name"]]} if found.keys() == {"name"} else found)


def _compiled(chart: Spec, **config: Any) -> tuple[float, float, str]:
    """Width, height, and the content of the SVG element of a chart, with its end tag."""
    # A control character, raw or as JSON writes it, would abort the process.
    text = json.dumps(finite(chart), ensure_ascii=False)
    text = re.sub(r"\\(\\|u00..|[bfnrt])", lambda found: found[0] if found[1] == "\\" else "?", text)
    text = "".join(c if c.isprintable() else "?" for c in text)
    svg = compile_with("vegalite_to_svg", text, config=template("config") | config, allowed_base_urls=[])
    svg = re.sub(SUPERFLUOUS, "", svg)
    # Browsers show titles when a mark is pointed at; labels of marks are only read aloud.
    svg = re.sub(
        r'<path aria-label="([^"]*)" role="[^"]*" aria-roledescription="[^"]*"([^>]*)/>',
        r"<path\2><title>\1</title></path>",
        svg,
    )
    root, _, content = svg.partition(">")
    width, height = root.split('"')[-2].split()[-2:]
    return float(width), float(height), content


def element(chart: Spec) -> str:
    """SVG element for a page, in the page's colours, with the width of its container within limits."""
    width, height, marks = _compiled(chart)
    return ELEMENT.format(
        width=width, height=height, label=escape(chart["description"]), least=0.8 * width, most=1.3 * width, marks=marks
    )


def svg(chart: Spec) -> str:
    """Content of an SVG file, on white."""
    width, height, marks = _compiled(chart, background=LIGHT["ground"], padding=12)
    marks = re.sub(r"var\(--(\w+)\)", lambda name: LIGHT[name[1]], marks)
    return FILE.format(
        width=width, height=height, label=escape(chart["description"]), font=template("config")["font"], marks=marks
    )


def _png(svg: str) -> bytes:
    """An SVG as PNG, of 300 dots per inch in print."""
    return compile_with("svg_to_png", svg, scale=72 / INCH, ppi=DPI)


def _pdf(svg: str) -> bytes:
    """An SVG as PDF of its width in print, with the font embedded."""
    in_print = re.sub(
        r'(?<= )(width|height)="([\d.]+)"', lambda side: f'{side[1]}="{float(side[2]) * 72 / INCH:g}"', svg, count=2
    )
    return compile_with("svg_to_pdf", in_print)


FORMATS: Mapping[str, Callable[[str], bytes]] = {".svg": str.encode, ".png": _png, ".pdf": _pdf}


def save(charts: Mapping[str, Spec], folder: Path) -> list[Path]:
    """Write each chart as NAME.svg, NAME.png and NAME.pdf into a folder.

    Args:
        folder: created if it does not exist.

    Returns:
        The files.

    Raises:
        StorageError: a file cannot be written.
    """
    make_folder(folder)
    return [
        path for name, chart in charts.items() for path in save_as(chart, *(folder / f"{name}{suffix}" for suffix in SUFFIXES))
    ]


def save_as(chart: Spec, *paths: Path) -> Sequence[Path]:
    """Write a chart in the formats of the suffixes of ``paths``, and return them."""
    drawn = svg(chart)
    for path in paths:
        content = FORMATS[path.suffix.lower()](drawn)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return paths
