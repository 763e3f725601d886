"""Scales: every value in its place, ticks that are round."""

import math
from itertools import pairwise

import numpy as np
import pytest

from lsgcli.report.charts import Line, Scale, line_drawing
from lsgcli.report.drawing import BLUE, COLOURS, DARK, LIGHT, ORANGE, ordered, shortened, styles


@pytest.mark.parametrize("values", [[], [None], [0.0], [3.0, 3.0], [-1e-9, 1e9], [math.inf]])
def test_any_values_have_a_scale(values):
    for log in (False, True):
        scale = Scale.over(values, log)
        assert scale.low < scale.high
        assert 1 <= len(scale.ticks()) <= 8
        assert all(0 - 1e-9 <= scale.share(tick) <= 1 + 1e-9 for tick in scale.ticks())


@pytest.mark.parametrize("style", [styles(1)[0], *ordered(1)])
@pytest.mark.parametrize(("values", "log"), [([1.0, 0.0, 0.5], True), ([None, 0.1, math.nan], False)])
def test_a_line_has_gaps_where_its_axis_has_no_place(values, log, style):
    drawing = line_drawing("g", [Line("a", values, style)], "epoch", Scale.over(values, log))
    assert 'stroke-width="2"' not in drawing.svg()  # isolated points are dots


@pytest.mark.parametrize(
    ("values", "log", "ends", "ticks"),
    [
        ([2.0, None, math.nan, 4.0], False, (1.9, 4.1), [2.0, 2.5, 3.0, 3.5, 4.0]),
        ([3e-4, 0.0, 0.4], True, (1.875e-4, 0.64), [1e-3, 1e-2, 1e-1]),
        ([2.1, 2.2], True, (1.3125, 3.52), [2.0]),
    ],
)
def test_ends_and_ticks_are_round(values, log, ends, ticks):
    scale = Scale.over(values, log)
    assert (scale.low, scale.high) == pytest.approx(ends)
    assert scale.ticks() == pytest.approx(ticks)


def contrast(first, second):
    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        return sum(
            w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_can_be_seen(theme):
    """Contrast as WCAG 2 asks for: 4.5 of text, 3 of lines."""
    for name in ("ink", "soft", "bad"):
        assert contrast(theme[name], theme["ground"]) >= 4.5
        assert contrast(theme[name], theme["shade"]) >= 4.5
    for colour in COLOURS:
        assert contrast(colour, theme["ground"]) >= 3


def test_lines_differ_without_colour():
    assert len({style.dash for style in styles(4)}) == 4
    lightness = [contrast(style.colour, "#000000") for style in styles(4)]
    assert min(b / a for a, b in pairwise(sorted(lightness))) > 1.1
    depth = [contrast(style.colour, "#000000") for style in ordered(17)]
    assert depth == sorted(depth)


def blended(colour, opacity, ground):
    """A colour over a ground."""
    over, under = (np.frombuffer(bytes.fromhex(one[1:]), np.uint8) for one in (colour, ground))
    return "#" + bytes(np.rint(opacity * over + (1 - opacity) * under).astype(np.uint8)).hex()


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_numbers_on_cells_can_be_read(theme):
    for colour in (BLUE, ORANGE):
        for opacity in np.linspace(0.2, 1, 9):
            assert contrast(theme["strong"], blended(colour, opacity, theme["ground"])) >= 4.5


def test_shortened():
    assert shortened("layer", 100) == "layer"
    text = shortened("runs/a-very-long-name/of-a/checkpoint.safetensors", 150)
    assert text.startswith("runs/")
    assert text.endswith("safetensors")
    assert len(text) * 12 * 0.54 <= 150
    assert shortened("airplane", 10) == "a…e"  # room for a single character
