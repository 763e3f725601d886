"""Reading pictures back: what stands where, from the SVG alone."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np

SVG = "{http://www.w3.org/2000/svg}"
Placed = tuple[ET.Element, float, float]
SHIFT = re.compile(r"translate\(([-\d.e]+),([-\d.e]+)\)")


def elements(svg: str, tag: str, group: str = "") -> list[Placed]:
    """All elements of a kind in groups of marks whose class contains ``group``, each with the sum of the shifts around it."""
    return [found for found, within in _walk(ET.fromstring(svg), 0.0, 0.0, "") if found[0].tag == SVG + tag and group in within]


def _walk(element: ET.Element, dx: float, dy: float, within: str) -> Iterator[tuple[Placed, str]]:
    for x, y in SHIFT.findall(element.get("transform") or "")[:1]:
        dx, dy = dx + float(x), dy + float(y)
    within += " " + (element.get("class") or "")
    yield (element, dx, dy), within
    for child in element:
        yield from _walk(child, dx, dy, within)


def marks(svg: str, kind: str) -> list[Placed]:
    """Paths of marks of a kind, such as line, area, symbol or rect."""
    return elements(svg, "path", f"mark-{kind} role-mark")


def points(placed: Placed) -> np.ndarray:
    """(n, 2) corners of a path."""
    element, dx, dy = placed
    return np.array(re.findall(r"[ML](-?[\d.e-]+),(-?[\d.e-]+)", element.get("d")), float) + np.array([dx, dy])


def title(placed: Placed) -> str:
    """The words shown when a mark is pointed at."""
    return placed[0].findtext(SVG + "title") or ""


def titled(svg: str, title: str) -> list[Placed]:
    """The marks whose title begins so."""
    return [placed for placed in elements(svg, "path") if (placed[0].findtext(SVG + "title") or "").startswith(title)]


def texts(svg: str, group: str = "") -> list[tuple[str, float, float]]:
    """Every text with its place, in groups whose class contains ``group``."""
    found = [(" ".join(e.itertext()).replace("−", "-"), dx, dy) for e, dx, dy in elements(svg, "text", group)]
    return [one for one in found if one[0]]


def numbers(svg: str, axis: str, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers at an axis, X or Y, and the pixels of their places; of several such axes, that of this number.

    An axis is half a pixel right of and below its plot, and numbers at a y axis are 4 pixels below their places.
    """
    groups = [placed for placed in elements(svg, "g") if (placed[0].get("aria-label") or "").startswith(f"{axis}-axis")]
    element, dx, dy = groups[number]
    found = []
    for (text, x, y), within in _walk(element, 0, 0, ""):
        if text.tag == SVG + "text" and "axis-label" in within and text.text:
            found.append((float(text.text.replace("−", "-")), dx + x - 0.5 if axis == "X" else dy + y - 4.5))
    values, pixels = np.array(found).T
    return values, pixels


def scale(svg: str, axis: str, log: bool = False, number: int = 0):
    """A function from pixels to values, from the numbers at an axis."""
    values, pixels = numbers(svg, axis, number)
    slope, origin = np.polyfit(pixels, np.log10(values) if log else values, 1)
    return lambda pixel: 10 ** (origin + slope * pixel) if log else origin + slope * pixel


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
