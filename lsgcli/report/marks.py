"""What drawings are made of. Each mark is an element of SVG, and can be painted on a Pillow image.

Coordinates are pixels, y downwards. A colour is a hexadecimal number or a name that the theme knows: see ``colours.py``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from itertools import cycle, pairwise
from typing import Any, Protocol

Point = tuple[float, float]
Theme = Mapping[str, str]
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # in the words of SVG and of Pillow; on the base line
ADVANCE = 0.54  # mean width of a character, as a share of its size


@dataclass(frozen=True)
class Pen:
    """Where and how marks are painted.

    Attributes:
        draw: Pillow's ImageDraw, which blends.
        scale: pixels of the image for a pixel of the drawing.
        theme: colours by name.
        dx, dy: where the drawing's origin is.
    """

    draw: Any
    scale: float
    theme: Theme
    dx: float = 0.0
    dy: float = 0.0

    def at(self, point: Point) -> Point:
        """A point on the image."""
        return (point[0] + self.dx) * self.scale, (point[1] + self.dy) * self.scale

    def colour(self, name: str, opacity: float = 1.0) -> tuple[int, ...]:
        """Red, green, blue, alpha."""
        from PIL import ImageColor

        return (*ImageColor.getrgb(self.theme.get(name, name))[:3], round(255 * opacity))


class Mark(Protocol):
    """Something that can be drawn."""

    def svg(self, theme: Theme) -> str:
        """As an element of SVG."""

    def paint(self, pen: Pen) -> None:
        """On an image."""


@dataclass(frozen=True)
class Line:
    """A line through points, solid or dashed."""

    points: Sequence[Point]
    colour: str = "ink"
    width: float = 1.0
    dash: tuple[float, ...] = ()

    def svg(self, theme: Theme) -> str:
        dash = f' stroke-dasharray="{" ".join(map(_n, self.dash))}"' if self.dash else ""
        style = f'stroke="{theme.get(self.colour, self.colour)}" stroke-width="{_n(self.width)}"{dash} stroke-linejoin="round"'
        return f'<polyline points="{_points(self.points)}" fill="none" {style}/>'

    def paint(self, pen: Pen) -> None:
        for piece in _dashes(self.points, self.dash) if self.dash else [self.points]:
            width = max(1, round(self.width * pen.scale))
            pen.draw.line([pen.at(p) for p in piece], fill=pen.colour(self.colour), width=width, joint="curve")


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Sequence[Point]
    colour: str
    opacity: float = 1.0

    def svg(self, theme: Theme) -> str:
        fill = f'fill="{theme.get(self.colour, self.colour)}"{_opacity(self.opacity)}'
        return f'<polygon points="{_points(self.points)}" {fill}/>'

    def paint(self, pen: Pen) -> None:
        if len(self.points) > 1:
            pen.draw.polygon([pen.at(p) for p in self.points], fill=pen.colour(self.colour, self.opacity))


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    opacity: float = 1.0

    def svg(self, theme: Theme) -> str:
        place = f'x="{_n(self.x)}" y="{_n(self.y)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        return f'<rect {place} fill="{theme.get(self.colour, self.colour)}"{_opacity(self.opacity)}/>'

    def paint(self, pen: Pen) -> None:
        (x, y), (right, bottom) = pen.at((self.x, self.y)), pen.at((self.x + self.width, self.y + self.height))
        if right - x >= 1 and bottom - y >= 1:
            pen.draw.rectangle((x, y, right - 1, bottom - 1), fill=pen.colour(self.colour, self.opacity))


@dataclass(frozen=True)
class Dot:
    """A marker, filled or as a ring: circle, square, triangle or diamond."""

    x: float
    y: float
    colour: str
    shape: str = "circle"
    radius: float = 4.0
    ring: bool = False

    def outline(self) -> list[Point]:
        """Corners of the marker; those of a circle are many."""
        corners, turn, size = {"square": (4, 0.125, 1.25), "triangle": (3, 0.25, 1.35), "diamond": (4, 0.25, 1.3)}.get(
            self.shape, (24, 0.0, 1.0)
        )
        angles = (2 * math.pi * (k / corners - turn) for k in range(corners))
        return [(self.x + size * self.radius * math.cos(a), self.y + size * self.radius * math.sin(a)) for a in angles]

    def svg(self, theme: Theme) -> str:
        colour = theme.get(self.colour, self.colour)
        fill = f'fill="none" stroke="{colour}" stroke-width="1.5"' if self.ring else f'fill="{colour}"'
        if self.shape == "circle":
            return f'<circle cx="{_n(self.x)}" cy="{_n(self.y)}" r="{_n(self.radius)}" {fill}/>'
        return f'<polygon points="{_points(self.outline())}" {fill}/>'

    def paint(self, pen: Pen) -> None:
        corners = self.outline()
        if self.ring:
            Line([*corners, corners[0]], self.colour, 1.5).paint(pen)
        else:
            Area(corners, self.colour).paint(pen)


@dataclass(frozen=True)
class Text:
    """A line of text; ``anchor`` is start, middle or end, ``y`` its base line."""

    x: float
    y: float
    text: str
    colour: str = "soft"
    size: float = 12
    anchor: str = "start"

    def svg(self, theme: Theme) -> str:
        place = f'x="{_n(self.x)}" y="{_n(self.y)}" font-size="{_n(self.size)}" text-anchor="{self.anchor}"'
        return f'<text {place} fill="{theme.get(self.colour, self.colour)}">{escape(self.text)}</text>'

    def paint(self, pen: Pen) -> None:
        font = _font(self.size * pen.scale)
        pen.draw.text(pen.at((self.x, self.y)), self.text, fill=pen.colour(self.colour), font=font, anchor=ANCHORS[self.anchor])


@dataclass(frozen=True)
class Group:
    """Marks that belong together.

    Attributes:
        title: what a page tells about them when they are pointed at.
        layer: number of the layer of neurons that they show, so that a page can show it in all its pictures at once.
        dx, dy: where their origin is.
    """

    marks: Sequence[Mark]
    title: str = ""
    layer: int | None = None
    dx: float = 0.0
    dy: float = 0.0

    def svg(self, theme: Theme) -> str:
        layer = f' data-layer="{self.layer}"' if self.layer is not None else ""
        move = f' transform="translate({_n(self.dx)} {_n(self.dy)})"' if self.dx or self.dy else ""
        title = f"<title>{escape(self.title)}</title>" if self.title else ""
        return f"<g{layer}{move}>{title}{''.join(mark.svg(theme) for mark in self.marks)}</g>"

    def paint(self, pen: Pen) -> None:
        moved = replace(pen, dx=pen.dx + self.dx, dy=pen.dy + self.dy)
        for mark in self.marks:
            mark.paint(moved)


def shortened(text: str, width: float, size: float = 12) -> str:
    """Text that fits into a width in pixels, its middle left out: beginning and end tell names apart."""
    room = max(4, int(width / (ADVANCE * size)))
    if len(text) <= room:
        return text
    tail = (room - 1) * 2 // 3
    return f"{text[: room - 1 - tail]}…{text[len(text) - tail :]}"


@cache
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _n(value: float) -> str:
    return f"{round(value, 1):g}"


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _opacity(value: float) -> str:
    return "" if value == 1 else f' fill-opacity="{value:g}"'


def _dashes(points: Sequence[Point], dash: tuple[float, ...]) -> Iterator[list[Point]]:
    """The pieces of a line that a pattern of dashes and gaps leaves."""
    pattern = cycle((length, index % 2 == 0) for index, length in enumerate(dash if len(dash) % 2 == 0 else dash * 2))
    left, drawn = next(pattern)
    piece = [points[0]] if drawn else []
    for (x0, y0), (x1, y1) in pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            end = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if drawn:
                yield [*piece, end]
            left, drawn = next(pattern)
            piece = [end]
        left -= length - done
        if drawn:
            piece.append((x1, y1))
    if drawn and len(piece) > 1:
        yield piece
