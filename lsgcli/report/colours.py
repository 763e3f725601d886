"""Colours of pages and figures, distinct for common colour blindness, on light and dark backgrounds."""

from collections.abc import Sequence
from dataclasses import dataclass

# Named colours of marks: CSS variables on a page, the light values in a file.
LIGHT = {"ink": "#1c2733", "soft": "#5b6875", "grid": "#d9dfe5", "ground": "#ffffff", "shade": "#eef2f6", "bad": "#b3261e"}
DARK = {"ink": "#e3e8ed", "soft": "#98a4b0", "grid": "#303943", "ground": "#14191f", "shade": "#1e252d", "bad": "#ff8a80"}

# Of these, the first four differ most in lightness, as far as contrast on both backgrounds permits; in print without colour, lines
# also differ by dashes and markers.
COLOURS = ("#2f6fb5", "#de7908", "#b4559b", "#2a9a68", "#7c6ad6", "#c2413b", "#8a7a2f", "#3f979c")
SHAPES = ("circle", "square", "triangle", "diamond")
DASHES = ((), (7.0, 3.0), (2.0, 3.0), (9.0, 3.0, 2.0, 3.0))
# SEQUENTIAL is ordered by lightness; DIVERGING runs from blue (negative) to orange (positive).
BLUES = ("#ffffff", "#9cc0e4", "#2f6fb5", "#123f73")  # shares of samples
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
