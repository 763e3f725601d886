"""Scales: every value in its place, ends that are round; and colours that can be seen."""

import json
import math
import re
from itertools import pairwise

import numpy as np
import pytest

from lsgcli.report.charts import line_chart, line_rows, y_scale
from lsgcli.report.drawing import BLUE, COLOURS, DARK, LIGHT, ORANGE, ordered, shortened, styles, svg, template
from tests.unit.report import reading


@pytest.mark.parametrize("values", [[], [None], [0.0], [3.0, 3.0], [-1e-9, 1e9], [math.inf]])
@pytest.mark.parametrize("log", [False, True])
def test_any_values_have_a_scale(values, log):
    rows = line_rows("a", [*values, 0.5], "epoch", log)
    drawn = svg(line_chart("any", rows, {"a": styles(1)[0]}, "epoch", y_scale([row["y"] for row in rows], log)))
    _, pixels = reading.numbers(drawn, "Y")
    assert 1 <= len(pixels) <= 10
    for _, x, y in reading.marks(drawn, "symbol"):
        assert 0 <= x <= 460
        assert min(pixels) - 200 <= y <= max(pixels) + 200
    assert not re.search(r'="[^"]*\b(NaN|Infinity)\b', drawn)


@pytest.mark.parametrize(("values", "log"), [([1.0, 0.0, 0.5], True), ([None, 0.1, math.nan], False)])
def test_a_line_has_gaps_where_its_axis_has_no_place(values, log):
    drawn = svg(line_chart("g", line_rows("a", values, "epoch", log), {"a": styles(1)[0]}, "epoch", y_scale(values, log)))
    assert all(len(reading.points(line)) < 2 for line in reading.marks(drawn, "line") if "L" in line[0].get("d"))
    assert len(reading.marks(drawn, "symbol")) == sum(value is not None and value > 0 for value in values)


def test_of_many_values_only_isolated_ones_are_points():
    values = [*np.linspace(0, 1, 500), None, 0.5]
    drawn = svg(line_chart("g", line_rows("a", values, "epoch"), {"a": styles(1)[0]}, "epoch", y_scale(values)))
    assert [reading.title(point) for point in reading.marks(drawn, "symbol")] == ["a, epoch 502: 0.5"]


@pytest.mark.parametrize(
    ("values", "log", "ends", "ticks"),
    [
        ([2.0, None, math.nan, 4.0], False, (2.0, 4.0), [2.0, 2.5, 3.0, 3.5, 4.0]),
        ([3e-4, 0.0, 0.4], True, (1e-4, 1.0), [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        ([1.0, 1.0], True, (1.0, 10.0), [1, 2, 3, 4, 5, 10]),
    ],
)
def test_ends_and_ticks_are_round(values, log, ends, ticks):
    scale = y_scale(values, log)
    assert scale["domain"] == pytest.approx(ends)
    drawn = svg(line_chart("g", line_rows("a", values, "epoch", log), {"a": styles(1)[0]}, "epoch", scale))
    assert reading.numbers(drawn, "Y")[0] == pytest.approx(ticks)


def test_numbers_of_one_axis_are_written_alike():
    values = [1.0, 10.0]
    drawn = svg(line_chart("alpha", line_rows("a", values, "epoch"), {"a": styles(1)[0]}, "epoch", y_scale(values)))
    written = [words for words, _, _ in reading.texts(drawn, "role-axis-label")]
    assert "10" in written
    assert all(words.isdigit() for words in written)


def test_whole_numbers_are_at_the_x_axis():
    for n in (1, 2, 3, 12, 300):
        drawn = svg(line_chart("g", line_rows("a", [0.5] * n, "epoch"), {"a": styles(1)[0]}, "epoch", y_scale([0.5, 1])))
        values, _ = reading.numbers(drawn, "X")
        assert 1 <= len(values) <= 16
        assert set(values) <= set(range(1, n + 1))


def test_cells_have_the_colours_that_are_checked_here():
    assert [colour for colour in (BLUE, ORANGE) if colour not in json.dumps(template("heat-map", cells=[]))] == []
    assert BLUE in json.dumps(template("shades", shades=[]))


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
