"""Drawings as SVG: the same marks on a page, in an SVG file, and rendered from that file to PNG and PDF.

A mark is a string of SVG. Coordinates are in pixels, y downwards. A colour is a hexadecimal number or a name of
:data:`~lsgcli.report.drawing.LIGHT`; the name becomes a CSS variable, which a page sets and which a file replaces by its value.
"""

import io
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path

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
# also differ by dashes and markers.
COLOURS = ("#2f6fb5", "#de7908", "#b4559b", "#2a9a68", "#7c6ad6", "#c2413b", "#8a7a2f", "#3f979c")
SHAPES = ("circle", "square", "triangle", "diamond")
DASHES = ((), (7.0, 3.0), (2.0, 3.0), (9.0, 3.0, 2.0, 3.0))
# SEQUENTIAL is ordered by lightness; DIVERGING runs from blue (negative) to orange (positive).
# Shares of samples: the larger, the more opaque, on a light and on a dark ground; black and white can both be read on it.
BLUE = "#2f78c4"
SEQUENTIAL = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
DIVERGING = ("#1f5fa8", "#8fb8de", "#f2f2f2", "#f0b070", "#b5560b")
DEPTH = ("#2b68b0", "#bf63a8", "#de7908")  # layers in their order, from the input; from dark to light


@dataclass(frozen=True)
class Style:
    """Style of a line: colour (hexadecimal, or a name of :data:`LIGHT`), shape of markers, and lengths of dashes and gaps."""

    colour: str
    shape: str = ""
    dash: tuple[float, ...] = ()


def styles(n: int) -> list[Style]:
    """Styles for n unordered items, such as checkpoints. Without colour, the first 16 differ by marker and dash."""
    return [
        Style(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], DASHES[(i + i // len(SHAPES)) % len(DASHES)])
        for i in range(n)
    ]


def ordered(n: int) -> list[Style]:
    """Solid lines for n ordered items, such as layers."""
    return [Style(ramp(DEPTH, i / (n - 1) if n > 1 else 0.0)) for i in range(n)]


def ramp(colours: Sequence[str], share: float) -> str:
    """The colour at 0 .. 1, interpolated between equally spaced colours."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    pair = zip(_rgb(colours[index]), _rgb(colours[index + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - index)):02x}" for a, b in pair)


def ink_on(colour: str) -> str:
    """Black or white, whichever has more contrast to a colour (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour))]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _rgb(colour: str) -> bytes:
    return bytes.fromhex(colour[1:])


SUFFIXES = (".svg", ".png", ".pdf")  # of saved drawings
# Widths in print, inches, and in pixels: one column of a journal, and two. Text of 12 pixels then has 6.4 or 6.8 points.
COLUMN, COLUMN_PIXELS, PAGE, PAGE_PIXELS = 3.3, 448, 7.0, 884
DPI = 300  # of PNG files
ADVANCE = 0.54  # mean width of a character, relative to the font size
Point = tuple[float, float]
Mark = str
# Corners of a marker, its rotation in revolutions, and its radius, relative to a circle of equal visual size.
CORNERS = {"square": (4, 0.125, 1.25), "triangle": (3, 0.25, 1.35), "diamond": (4, 0.25, 1.3)}


def line(points: Sequence[Point], colour: str = "ink", width: float = 1.0, dash: Sequence[float] = ()) -> Mark:
    """A line through points, solid or dashed."""
    style = {
        "stroke": _colour(colour),
        "stroke_width": _number(width),
        **({"stroke_dasharray": " ".join(map(_number, dash))} if dash else {}),
    }
    return _element("polyline", points=_points(points), fill="none", **style, stroke_linejoin="round")


def area(points: Sequence[Point], colour: str, opacity: float = 1.0) -> Mark:
    """A filled polygon."""
    return _element("polygon", points=_points(points), **_fill(colour, opacity))


def box(corner: Point, width: float, height: float, colour: str, opacity: float = 1.0) -> Mark:
    """A filled rectangle; ``corner`` is its upper left."""
    return _element("rect", x=corner[0], y=corner[1], width=width, height=height, **_fill(colour, opacity))


def bars(runs: Iterable[tuple[float, float, float]], height: float, colour: str, opacity: float = 1.0) -> Mark:
    """Many horizontal bars of one height as one mark, from their left ends, middles and widths."""
    path = "".join(f"M{_number(x)} {round(y, 2):g}h{_number(width)}" for x, y, width in runs)
    return _element(
        "path",
        d=path,
        fill="none",
        stroke=_colour(colour),
        stroke_width=f"{height:g}",
        stroke_opacity=f"{opacity:g}",
        shape_rendering="crispEdges",
    )


def dots(centres: Sequence[Point], diameter: float, colour: str) -> Mark:
    """Many dots as one mark."""
    path = "".join(f"M{_number(x)} {round(y, 2):g}h.01" for x, y in centres)
    return _element("path", d=path, fill="none", stroke=_colour(colour), stroke_width=f"{diameter:.3g}", stroke_linecap="round")


def dot(at: Point, colour: str, shape: str = "circle", radius: float = 4.0, ring: bool = False) -> Mark:
    """A marker, filled or as a ring: circle, square, triangle or diamond."""
    (x, y), paint = at, _fill(colour)
    if ring:
        paint = {"fill": "none", "stroke": _colour(colour), "stroke_width": "1.5"}
    if shape not in CORNERS:
        return _element("circle", cx=x, cy=y, r=radius, **paint)
    corners, turn, size = CORNERS[shape]
    angles = (2 * math.pi * (k / corners - turn) for k in range(corners))
    outline = [(x + size * radius * math.cos(a), y + size * radius * math.sin(a)) for a in angles]
    return _element("polygon", points=_points(outline), **paint)


def text(at: Point, words: str, colour: str = "soft", size: float = 12, anchor: str = "start") -> Mark:
    """A line of text on a base line; ``anchor`` is start, middle or end."""
    return _element("text", words, x=at[0], y=at[1], font_size=size, text_anchor=anchor, fill=_colour(colour))


def group(marks: Sequence[Mark], title: str = "", layer: int | None = None, at: Point = (0, 0)) -> Mark:
    """A group of marks.

    Args:
        title: tooltip on a page.
        layer: number of the layer shown, which a page highlights in all pictures.
        at: origin of the group.
    """
    number = f' data-layer="{layer}"' if layer is not None else ""
    move = f' transform="translate({_number(at[0])} {_number(at[1])})"' if any(at) else ""
    tip = f"<title>{_escaped(title)}</title>" if title else ""
    return f"<g{number}{move}>{tip}{''.join(marks)}</g>"


def shortened(words: str, width: float, size: float = 12) -> str:
    """Text shortened in the middle to a width in pixels, because names differ at the start or end."""
    room = max(4, int(width / (ADVANCE * size)))
    if len(words) <= room:
        return words
    tail = (room - 1) * 2 // 3
    return f"{words[: room - 1 - tail]}…{words[len(words) - tail :]}"


@dataclass(frozen=True)
class Drawing:
    """Marks on an area of width x height pixels; ``label`` is the description for screen readers."""

    width: float
    height: float
    marks: Sequence[Mark]
    label: str

    @property
    def inches(self) -> float:
        """Width in print: one column or two, less for a narrow drawing, whose text is not enlarged."""
        width, pixels = (COLUMN, COLUMN_PIXELS) if self.width <= COLUMN_PIXELS else (PAGE, PAGE_PIXELS)
        return width * min(1, self.width / pixels)

    def element(self) -> str:
        """SVG element for a page, in the page's colours and with the width of its container."""
        marks = "".join(self.marks)
        return f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{_escaped(self.label)}">{marks}</svg>'

    def svg(self, font: str = "system-ui, sans-serif") -> str:
        """Content of an SVG file, on white."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        ground = f'<rect width="100%" height="100%" fill="{LIGHT["ground"]}"/>'
        marks = re.sub(f"var\\(--({'|'.join(LIGHT)})\\)", lambda name: LIGHT[name[1]], "\n".join(self.marks))
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{font}" role="img">'
        return f"{head}<title>{_escaped(self.label)}</title>{ground}\n{marks}\n</svg>\n"


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
    suffixes = [suffix for suffix in SUFFIXES if suffix != ".pdf" or find_spec("svglib")]
    written = [(folder / f"{name}{suffix}", drawing) for name, drawing in drawings.items() for suffix in suffixes]
    for path, drawing in written:
        save_as(drawing, path)
    return [path for path, _ in written]


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

    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert isinstance(font.path, io.BytesIO)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "font.ttf"
        file.write_bytes(font.path.getvalue())
        yield str(font.getname()[0]), str(file)


def png(drawing: Drawing, scale: float | None = None) -> bytes:
    """A drawing as PNG, scaled by ``scale``; by default, 300 dots per inch at its width in print."""
    from PIL import Image
    from resvg_py import svg_to_bytes

    zoom = DPI * drawing.inches / drawing.width if scale is None else scale
    with _font() as (name, file):
        svg = drawing.svg(name)
        # System fonts are used only for characters missing in this font, so that output is equal on all machines.
        plain = svg.replace("…", "").isascii()
        image, content = svg_to_bytes(svg_string=svg, zoom=zoom, font_files=[file], skip_system_fonts=plain), io.BytesIO()
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
    scale = 72 * drawing.inches / page.width
    page.scale(scale, scale)
    page.initialFontName = name
    content, size = io.BytesIO(), (scale * page.width, scale * page.height)
    # Without initialFontName, the file also refers to Helvetica, which is not embedded; publishers reject such files.
    canvas = Canvas(content, size, initialFontName=name, invariant=True)
    renderPDF.draw(page, canvas, 0, 0)
    canvas.save()
    return content.getvalue()


def _element(tag: str, words: str = "", /, **attributes: float | str) -> Mark:
    """An SVG element; numbers are rounded."""
    pairs = ((name.replace("_", "-"), v if isinstance(v, str) else _number(v)) for name, v in attributes.items())
    start = f"<{tag} " + " ".join(f'{name}="{value}"' for name, value in pairs)
    return f"{start}>{_escaped(words)}</{tag}>" if tag == "text" else f"{start}/>"


def _fill(colour: str, opacity: float = 1.0) -> dict[str, str]:
    return {"fill": _colour(colour)} | ({} if opacity == 1 else {"fill_opacity": f"{opacity:g}"})


def _colour(name: str) -> str:
    return f"var(--{name})" if name in LIGHT else name


def _escaped(words: str) -> str:
    """Text escaped for XML, without control characters and lone surrogates."""
    return escape("".join(c if c.isprintable() or c == "\n" else "?" for c in words))


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
