"""Drawings as SVG: the same marks on a page, in an SVG file, and rendered from that file to PNG and PDF.

A mark is a string of SVG. Coordinates are in pixels, y downwards. A colour is a hexadecimal number or a name of
:data:`~lsgcli.report.drawing.LIGHT`; the name becomes a CSS variable, which a page sets and which a file replaces by its value.
"""

import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.system.files import make_folder, replacing

# Named colours of marks: CSS variables on a page, the light values in a file.
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

# Of these, the first four differ most in lightness, as far as contrast on both backgrounds permits; in print without colour, lines
# also differ by dashes.
COLOURS = ("#2f6fb5", "#de7908", "#b4559b", "#2a9a68", "#7c6ad6", "#c2413b", "#8a7a2f", "#3f979c")
DASHES = (None, "7 3", "2 3", "9 3 2 3")
# Of cells, whose opacity says how much: black and white can both be read on them.
BLUE = "#2f78c4"
ORANGE = "#ad6200"
DEPTH = ((43, 104, 176), (191, 99, 168), (222, 121, 8))  # RGB of layers in their order, from the input; from dark to light


@dataclass(frozen=True)
class Style:
    """Style of a line: colour (hexadecimal, or a name of :data:`LIGHT`), and lengths of dashes and gaps."""

    colour: str
    dash: str | None = None


def styles(n: int) -> list[Style]:
    """Styles for n unordered items, such as checkpoints. Without colour, four differ by their dashes."""
    return [Style(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i in range(n)]


def ordered(n: int) -> list[Style]:
    """Solid lines for n ordered items, such as layers."""
    places = np.linspace(0, 2, n)
    channels = [np.interp(places, (0, 1, 2), channel).astype(int) for channel in zip(*DEPTH, strict=True)]
    return [Style(f"#{red:02x}{green:02x}{blue:02x}") for red, green, blue in zip(*channels, strict=True)]


SUFFIXES = (".svg", ".png", ".pdf")  # of saved drawings
INCH = 135  # pixels in print: a chart fills a column of a journal, 3.3 in, and text of 12 pixels has 6.4 points
DPI = 300  # of PNG files
ADVANCE = 0.54  # mean width of a character, relative to the font size
Point = tuple[float, float]
Mark = str


def line(points: Sequence[Point], colour: str = "ink", width: float = 1.0, dash: str | None = None) -> Mark:
    """A line through points, solid or dashed."""
    stroke = _colour(colour)
    return _element("polyline", points=_points(points), fill="none", stroke=stroke, stroke_width=width, stroke_dasharray=dash)


def area(points: Sequence[Point], colour: str, opacity: float | None = None) -> Mark:
    """A filled polygon."""
    return _element("polygon", points=_points(points), fill=_colour(colour), fill_opacity=opacity)


def box(corner: Point, width: float, height: float, colour: str, opacity: float | None = None) -> Mark:
    """A filled rectangle; ``corner`` is its upper left."""
    x, y = corner
    return _element("rect", x=x, y=y, width=width, height=height, fill=_colour(colour), fill_opacity=opacity)


def dots(centres: Sequence[Point], diameter: float, colour: str, opacity: float | None = None, shape: str = "round") -> Mark:
    """Many dots as one mark; ``shape`` is round or square."""
    path = "".join(f"M{_number(x)} {_number(y)}h.01" for x, y in centres)
    stroke = _colour(colour)
    return _element(
        "path", d=path, fill="none", stroke=stroke, stroke_width=diameter, stroke_opacity=opacity, stroke_linecap=shape
    )


def dot(at: Point, colour: str, radius: float = 4.0) -> Mark:
    """A disk."""
    return _element("circle", cx=at[0], cy=at[1], r=radius, fill=_colour(colour))


def text(at: Point, words: str, colour: str = "soft", size: float = 12, anchor: str = "start") -> Mark:
    """A line of text on a base line; ``anchor`` is start, middle or end."""
    return _element("text", words, x=at[0], y=at[1], font_size=size, text_anchor=anchor, fill=_colour(colour))


def group(marks: Sequence[Mark], title: str = "", layer: int | None = None, at: Point | None = None) -> Mark:
    """A group of marks.

    Args:
        title: tooltip on a page.
        layer: number of the layer shown, which a page highlights in all pictures.
        at: origin of the group.
    """
    number = f' data-layer="{layer}"' if layer is not None else ""
    move = f' transform="translate({_number(at[0])} {_number(at[1])})"' if at else ""
    tip = f"<title>{_escaped(title)}</title>" if title else ""
    return f"<g{number}{move}>{tip}{''.join(marks)}</g>"


def shortened(words: str, width: float, size: float = 12) -> str:
    """Text shortened in the middle to a width in pixels, because names differ at the start or end."""
    room = max(4, int(width / (ADVANCE * size)))
    if len(words) <= room:
        return words
    half = (room - 1) // 2
    return f"{words[:half]}…{words[-half:]}"


ELEMENT = (
    '<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" style="min-width:{least:.0f}px;max-width:{most:.0f}px">'
    "{marks}</svg>"
)
FILE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" \
font-family="{font}" stroke-linejoin="round" role="img"><title>{label}</title><rect width="100%" height="100%" fill="#ffffff"/>
{marks}
</svg>
"""


@dataclass(frozen=True)
class Drawing:
    """Marks on an area of width x height pixels; ``label`` is the description for screen readers."""

    width: float
    height: float
    marks: Sequence[Mark]
    label: str

    def element(self) -> str:
        """SVG element for a page, in the page's colours, with the width of its container within limits."""
        return ELEMENT.format(
            width=self.width,
            height=self.height,
            label=_escaped(self.label),
            least=0.8 * self.width,
            most=1.3 * self.width,
            marks="".join(self.marks),
        )

    def svg(self, font: str = "system-ui, sans-serif") -> str:
        """Content of an SVG file, on white."""
        marks = re.sub(f"var\\(--({'|'.join(LIGHT)})\\)", lambda name: LIGHT[name[1]], "\n".join(self.marks))
        return FILE.format(width=self.width, height=self.height, label=_escaped(self.label), font=font, marks=marks)


def save(drawings: Mapping[str, Drawing], folder: Path) -> list[Path]:
    """Write each drawing as NAME.svg and NAME.png, and with the extra ``pdf`` as NAME.pdf, into a folder.

    Args:
        folder: created if it does not exist.

    Returns:
        The files.

    Raises:
        StorageError: a file cannot be written.
    """
    make_folder(folder)
    written = []
    for name, drawing in drawings.items():
        for suffix in SUFFIXES:
            if suffix != ".pdf" or find_spec("svglib"):
                written.append(folder / f"{name}{suffix}")
                save_as(drawing, written[-1])
    return written


def save_as(drawing: Drawing, path: Path) -> None:
    """Write a drawing in the format of the suffix of ``path``."""
    suffix = path.suffix.lower()
    content = drawing.svg().encode() if suffix == ".svg" else {".png": png, ".pdf": pdf}[suffix](drawing)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _font() -> Iterator[tuple[str, str]]:
    """Name and file of the font included in Pillow, because a machine may have none."""
    from PIL import ImageFont

    font: Any = ImageFont.load_default(12)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "font.ttf"
        file.write_bytes(font.path.getvalue())
        yield font.getname()[0], str(file)


def png(drawing: Drawing) -> bytes:
    """A drawing as PNG, of 300 dots per inch in print."""
    from PIL import Image
    from resvg_py import svg_to_bytes

    content = io.BytesIO()
    with _font() as (name, file):
        svg = drawing.svg(name)
        # System fonts are used only for characters missing in this font, so that output is equal on all machines.
        plain = svg.replace("…", "").isascii()
        image = svg_to_bytes(svg_string=svg, zoom=DPI / INCH, font_files=[file], skip_system_fonts=plain)
    # resvg writes no resolution, which journals require.
    Image.open(io.BytesIO(image)).convert("RGB").save(content, "png", dpi=(DPI, DPI), optimize=True)
    return content.getvalue()


def pdf(drawing: Drawing) -> bytes:
    """A drawing as PDF of its width in print, with the font embedded."""
    from reportlab.graphics import renderPDF
    from reportlab.pdfgen.canvas import Canvas
    from svglib.fonts import register_font
    from svglib.svglib import svg2rlg

    with _font() as (name, file):
        register_font(name, file)
        page = svg2rlg(io.BytesIO(drawing.svg(name).encode()))
    scale = 96 / INCH  # svglib takes a pixel for 1/96 in
    page.scale(scale, scale)
    page.initialFontName = name
    content = io.BytesIO()
    # Without initialFontName, the file also refers to Helvetica, which is not embedded; publishers reject such files.
    canvas = Canvas(content, (scale * page.width, scale * page.height), initialFontName=name, invariant=True)
    renderPDF.draw(page, canvas, 0, 0)
    canvas.save()
    return content.getvalue()


def _element(tag: str, words: str = "", /, **attributes: float | str | None) -> Mark:
    """An SVG element; numbers are rounded, and attributes of None left out."""
    start = f"<{tag}"
    for name, value in attributes.items():
        if value is not None:
            start += f' {name.replace("_", "-")}="{value if isinstance(value, str) else _number(value)}"'
    return f"{start}>{_escaped(words)}</{tag}>" if words else f"{start}/>"


def _colour(name: str) -> str:
    return f"var(--{name})" if name in LIGHT else name


def _escaped(words: str) -> str:
    """Text escaped for XML, without control characters and lone surrogates."""
    return escape("".join(c if c.isprintable() or c == "\n" else "?" for c in words))


def _number(value: float) -> str:
    return f"{round(value, 2):g}"


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
