"""Reading pictures back: what stands where, from the SVG alone."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np

SVG = "{http://www.w3.org/2000/svg}"
Placed = tuple[ET.Element, float, float]


def elements(svg: str, tag: str) -> list[Placed]:
    """All elements of a kind, each with the sum of the shifts around it."""
    return [found for found in _walk(ET.fromstring(svg), 0.0, 0.0) if found[0].tag == SVG + tag]


def _walk(element: ET.Element, dx: float, dy: float) -> Iterator[Placed]:
    if move := element.get("transform"):
        x, y = move.removeprefix("translate(").removesuffix(")").split()
        dx, dy = dx + float(x), dy + float(y)
    yield element, dx, dy
    for child in element:
        yield from _walk(child, dx, dy)


def points(placed: Placed) -> np.ndarray:
    """(n, 2) corners of a polyline or polygon."""
    element, dx, dy = placed
    return np.array([[float(v) for v in pair.split(",")] for pair in element.get("points").split()]) + np.array([dx, dy])


def texts(svg: str) -> list[tuple[str, float, float]]:
    """Every text with its place."""
    return [(e.text, float(e.get("x")) + dx, float(e.get("y")) + dy) for e, dx, dy in elements(svg, "text")]


def y_axis(svg: str, log: bool = False):
    """A function from pixels to values, from the numbers at the y axis: they end left of the plot, 4 pixels below their grid line."""
    ends = [(e, dy) for e, _, dy in elements(svg, "text") if e.get("text-anchor") == "end"]
    ticks = [(float(e.text), float(e.get("y")) + dy - 4) for e, dy in ends]
    values, pixels = np.array(ticks).T
    slope, origin = np.polyfit(pixels, np.log10(values) if log else values, 1)
    return lambda pixel: 10 ** (origin + slope * pixel) if log else origin + slope * pixel


def group(svg: str, title: str) -> ET.Element:
    """The one group whose title begins so."""
    (found,) = [e for e, _, _ in elements(svg, "g") if (e.findtext(SVG + "title") or "").startswith(title)]
    return found


VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "</script><script>alert(1)</script><!--<script>\"'><img src=http://example.org/x onerror=alert(2)>&amp;"


class Reader(HTMLParser):
    """Elements with their attributes and text; fails where tags do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.found = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.found[-1])

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag, **attributes):
        return [e for e in self.found if e[0] == tag and attributes.items() <= e[1].items()]

    def text(self, tag, **attributes):
        return ["".join(e[2]) for e in self.all(tag, **attributes)]
